//! What kthena-bridge decides: from a Kthena Model, its annotations or a ModelExposure, and what the cluster has around
//! it, to the objects that should exist and the conditions that tell how far they work.
//!
//! The steps are the modules: [`observe`] says what is looked at, [`ask`] and [`exposure`] read what is asked for by
//! whom ([`owner`]) of which Model ([`target`]), [`topology`] finds which pods, port and Gateways that means, [`plan`] builds the objects, [`claims`]
//! tells whether they take requests from somebody else, and [`report`] how far they work. Everything here is pure: the same input
//! gives the same output, there is no client and no clock.

pub mod ask;
pub mod claims;
pub mod config;
pub mod exposure;
pub mod holder;
mod hostname;
pub mod names;
pub mod observe;
pub mod owner;
pub mod ownership;
pub mod plan;
pub mod provider;
pub mod reachable;
pub mod report;
pub mod target;
pub mod topology;

pub use ask::{Ask, Source};
pub use config::Config;
pub use exposure::Exposure;
pub use owner::{Owner, OwnerKind};
pub use plan::Plan;
pub use target::{Target, TargetKind};
pub use topology::Topology;
