use std::{path::PathBuf, time::Duration};

/// What went wrong in the test bed. The messages are written to be read in a failed test's output.
#[derive(thiserror::Error)]
pub enum Error {
    /// The process does not run inside `e2e/sandbox`.
    #[error("this is not the sandbox ({0}): run it as `e2e/sandbox COMMAND`")]
    NotInSandbox(String),
    /// A file that the bed needs is missing.
    #[error("{path} is missing: {remedy}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// How to get it.
        remedy: String,
    },
    /// A file or process operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A request to the API server failed.
    #[error("{what}: {source}")]
    Kube {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// A component ended although the bed still runs.
    #[error("{name} ended ({status}); the end of its log:\n{log}")]
    Exited {
        /// The component.
        name: String,
        /// Its exit status.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// Something did not come to be in time.
    #[error("not within {after:?}: {what}\nlast seen: {seen}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// The state last seen.
        seen: String,
    },
    /// Anything else, said in full.
    #[error("{0}")]
    Other(String),
}

/// Tests unwrap: what they print is to be the message, with its line breaks.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A result of the test bed.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was tried when it fails.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            what: what(),
            source,
        })
    }
}

impl<T> Context<T> for kube::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Kube {
            what: what(),
            source: Box::new(source),
        })
    }
}
