//! What kthena-bridge decides: from a Kthena Model, its annotations and what the cluster has around it,
//! to the objects that should exist and the conditions that tell how far they work.
//!
//! The steps are the modules: [`observe`] says what is looked at, [`ask`] and [`exposure`] read what is asked for,
//! [`topology`] finds which pods, port and Gateways that means, [`plan`] builds the objects, [`claims`]
//! tells whether they take requests from somebody else, and [`report`] how far they work. Everything here is pure: the same input
//! gives the same output, there is no client and no clock.

pub mod ask;
pub mod claims;
pub mod config;
pub mod exposure;
mod hostname;
pub mod names;
pub mod observe;
pub mod ownership;
pub mod plan;
pub mod provider;
pub mod reachable;
pub mod report;
pub mod topology;

pub use ask::Ask;
pub use config::Config;
pub use exposure::Exposure;
pub use plan::Plan;
pub use topology::Topology;
