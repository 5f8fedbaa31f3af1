//! The bed itself, on one bed: what its kubelet promises, and the whole path with objects made by hand.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

mod by_hand;
mod planned;
mod pods;

use std::time::Duration;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(30);
