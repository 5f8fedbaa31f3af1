//! `kthena-bridge tree`.
