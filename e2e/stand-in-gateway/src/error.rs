//! Why the stand-in can't go on.

use std::{io, path::PathBuf, process::ExitStatus};

/// Why the stand-in can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Envoy is not there, or can't be run.
    #[error("starting {}", .path.display())]
    Start {
        /// The binary.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Envoy ended without being told to.
    #[error("Envoy ended with {status}; its log is {}", .log.display())]
    Exited {
        /// How.
        status: ExitStatus,
        /// Where its own words are.
        log: PathBuf,
    },
    /// A file of Envoy's configuration can't be written.
    #[error("writing {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `ip` is not there.
    #[error("running ip")]
    Ip(#[source] io::Error),
    /// An address can't be put on the interface, or taken from it.
    #[error("ip {command}: {message}")]
    Address {
        /// The arguments.
        command: String,
        /// What `ip` says.
        message: String,
    },
    /// None of the places where distributions keep them has one.
    #[error("no file with the system's CA certificates in {0:?}")]
    NoSystemCa(&'static [&'static str]),
}
