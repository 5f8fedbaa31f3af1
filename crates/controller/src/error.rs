//! What can go wrong, and what is done about it.

use std::net::SocketAddr;
use std::time::Duration;

use kthena_bridge_api::child::ChildKind;

/// What a failure calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Somebody else wrote at the same time: look again and retry at once.
    Conflict,
    /// A right is missing.
    Forbidden,
    /// Something of the needed name is somebody else's.
    NotOurs,
    /// Retry with a growing delay.
    Transient,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 4] = [
        Self::Conflict,
        Self::Forbidden,
        Self::NotOurs,
        Self::Transient,
    ];

    /// As a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Forbidden => "forbidden",
            Self::NotOurs => "not_ours",
            Self::Transient => "transient",
        }
    }
}

/// Why a reconcile, or the operator, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("{what}: {source}")]
    Request {
        /// Verb and object.
        what: String,
        /// The answer, or why there was none.
        source: Box<kube::Error>,
    },
    /// A request was not answered in time.
    #[error("{what}: no answer within {}s", limit.as_secs())]
    Timeout {
        /// Verb and object.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Something that a new object refers to is not there.
    #[error("{what}: {message}")]
    Prerequisite {
        /// Verb and object.
        what: String,
        /// What is not there, as the API server says it.
        message: String,
    },
    /// An object of the needed name exists and is not ours.
    #[error("{kind} {namespace}/{name} exists and belongs to something else")]
    NotOurs {
        /// Its kind.
        kind: ChildKind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// What is written is undone at once.
    #[error(
        "{kind} {namespace}/{name} is {how} by somebody else as soon as it is written; it is written again later, and \
         its managedFields, or the API server's audit log, say by whom"
    )]
    Contended {
        /// Its kind.
        kind: ChildKind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// `removed` or `changed`.
        how: &'static str,
    },
    /// Some objects of a Model could not be written; the Model's conditions say which.
    #[error("{first}{}", if *.more > 0 { format!(" (and {more} more)") } else { String::new() })]
    Apply {
        /// The first failure.
        first: Box<Self>,
        /// How many more there were.
        more: usize,
    },
    /// The cluster's client cannot be made.
    #[error("the cluster's client cannot be made: {0}")]
    Client(Box<kube::Error>),
    /// Another operator works now, or may.
    #[error(
        "the Lease {namespace}/{name} is lost: {why}; this operator ends, so that only one works"
    )]
    LeaseLost {
        /// The Lease's namespace.
        namespace: String,
        /// The Lease's name.
        name: String,
        /// Who has it, or what went wrong.
        why: String,
    },
    /// The listening address cannot be used.
    #[error("listening on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// What it calls for.
    pub fn class(&self) -> Class {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(s)
                    if s.is_conflict() || s.is_already_exists() || s.code == 404 =>
                {
                    Class::Conflict
                }
                // A namespace that ends, and a quota, answer 403 as well; only a missing right says "cannot".
                kube::Error::Api(s) if s.is_forbidden() && s.message.contains(" cannot ") => {
                    Class::Forbidden
                }
                _ => Class::Transient,
            },
            Self::NotOurs { .. } => Class::NotOurs,
            Self::Apply { first, .. } => first.class(),
            Self::Timeout { .. }
            | Self::Prerequisite { .. }
            | Self::Contended { .. }
            | Self::LeaseLost { .. }
            | Self::Client(_)
            | Self::Listen { .. } => Class::Transient,
        }
    }

    /// The API server's answer, when it refused.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the object, or its kind, is not there. Of a kind whose group is not served, the answer says
    /// so by its code alone.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// What went wrong, without what was tried.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            },
            Self::Timeout { limit, .. } => format!("no answer within {}s", limit.as_secs()),
            Self::Prerequisite { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}
