//! A stand-in for Istio's control plane: it turns Gateway API objects into configuration of one real Envoy
//! and writes the statuses that Istio writes. For the end-to-end tests.
//!
//! Watching and writing ([`run()`]) are apart from the translation ([`translate`]), which knows neither a
//! client nor a clock.

mod address;
pub mod api;
mod attach;
mod backend;
mod envoy;
mod error;
mod hostname;
mod run;
pub mod snapshot;
mod status;
mod watch;
mod xds;

use std::{net::Ipv4Addr, ops::RangeInclusive, path::PathBuf};

pub use error::Error;
pub use run::run;
pub use snapshot::Snapshot;
pub use status::StatusWrite;
pub use xds::{Options, Xds};

/// What the stand-in needs of its surroundings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// A folder for its configuration. No other stand-in may use it.
    pub dir: PathBuf,
    /// The file for its log, with a line per request; it is overwritten.
    pub log: PathBuf,
    /// The port of its admin interface, on 127.0.0.1.
    pub admin_port: u16,
    /// The addresses of which each Gateway gets one to listen on.
    pub addresses: RangeInclusive<Ipv4Addr>,
    /// The interface that they are put on.
    pub interface: String,
}

/// All of Envoy's configuration, and every status that is not yet as it should be.
pub fn translate(snapshot: &Snapshot, options: &Options) -> (Xds, Vec<StatusWrite>) {
    let routes = attach::attach_all(snapshot);
    (
        xds::build(snapshot, &routes, options),
        status::writes(snapshot, &routes),
    )
}

#[cfg(test)]
mod tests;
