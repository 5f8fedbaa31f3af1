//! `kthena-bridge diff`.
