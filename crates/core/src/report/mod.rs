//! From what is observed to the two conditions on what asks for the exposure.
//!
//! `Programmed` is read off the live objects, not off the plan: it tells what serves now, also while the
//! annotations are invalid and nothing is written. The first cause in the chain wins: Model, endpoints,
//! endpoint picker, route, pool, Gateway.

mod accepted;
mod details;
mod programmed;

pub use details::details;

use std::time::Duration;

use jiff::Timestamp;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::condition::Reason;

use crate::exposure::{Exposure, InvalidSettings};
use crate::observe::Cluster;
use crate::owner::Owner;
use crate::plan::Plan;
use crate::target::Target;
use crate::topology::{NotAccepted, Topology};

/// A condition: its reason, which implies its type and status, and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why.
    pub reason: Reason,
    /// For a person: names objects and what to do, and holds no counters and no times.
    pub message: String,
}

impl Verdict {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Both conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of the request.
    pub accepted: Verdict,
    /// Of what serves.
    pub programmed: Verdict,
    /// Of a request that was sent, where one is.
    pub reachable: Option<Verdict>,
    /// When to look again although nothing changes: a silence becomes a reason of its own.
    pub again_in: Option<Duration>,
}

impl Report {
    /// The conditions, in the order in which they are written.
    pub fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        [&self.accepted, &self.programmed]
            .into_iter()
            .chain(&self.reachable)
    }
}

/// How far an exposure got.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// Its annotations are not understood.
    Invalid(&'a InvalidSettings),
    /// It cannot be served as it is.
    NotAccepted(&'a NotAccepted),
    /// Its objects were written, but for the failures.
    Applied {
        /// What was asked for.
        exposure: &'a Exposure,
        /// What it means.
        topology: &'a Topology,
        /// What should exist.
        plan: &'a Plan,
        /// What could not be written.
        failures: &'a [Failure],
    },
}

/// An object that could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub kind: ChildKind,
    /// Its name.
    pub name: String,
    /// Why not.
    pub cause: Cause,
    /// What the API server said.
    pub message: String,
}

/// Why an object could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An object of that name exists and is not ours.
    NameConflict,
    /// We lack a right.
    Forbidden,
    /// Anything else.
    Other,
}

/// The conditions of what is, or wants to be, exposed. Without a target it is not there.
pub fn conditions(
    owner: &Owner,
    target: Option<&Target>,
    outcome: Outcome<'_>,
    cluster: &impl Cluster,
    now: Timestamp,
) -> Report {
    let (programmed, again_in) = programmed::verdict(owner, target, outcome, cluster, now);
    Report {
        accepted: accepted::verdict(owner, target, outcome, cluster),
        programmed,
        reachable: None,
        again_in,
    }
}

#[cfg(test)]
mod tests;
