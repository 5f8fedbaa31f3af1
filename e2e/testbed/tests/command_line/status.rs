//! `kthena-bridge status`.
