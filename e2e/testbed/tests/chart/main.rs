//! The Helm chart, and the manifests of `config/`, which are the same. In a test binary of its own, since
//! its bed begins without the operator.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

mod changed;
mod generated;
mod installed;
mod matrix;
mod metrics;
mod rendered;
mod template;
mod unit;

/// Held by who has a release: `helm test` looks at all operators of the cluster.
static RELEASE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn chart() -> String {
    testbed::chart().to_str().unwrap().to_owned()
}
