//! The controller: watches the cluster, has `kthena-bridge-core` decide, and writes what differs.
//!
//! `observe` keeps what is watched, `watch` fills it, `reconcile` is the loop for one Model, in which
//! `decide` says what is to become of it and `claims` who has which requests, `apply`
//! writes its objects and `status` its conditions. Every watch has a task and a backoff of its
//! own, so that one kind that is missing or forbidden does not slow the others down.

mod apply;
mod claims;
mod configuration;
mod contention;
mod context;
mod decide;
mod error;
mod event;
mod health;
mod interest;
mod leader;
mod metrics;
mod namespaced_name;
mod object_ref;
mod observe;
mod queue;
mod reachable;
mod reconcile;
mod request;
mod retry;
mod run;
mod settled;
mod status;
mod watch;

pub use configuration::Configuration;
pub use error::Error;
pub use leader::LeaderElection;
pub use run::{Options, run};
