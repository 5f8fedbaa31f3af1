//! The command line, as a user runs it against a cluster with all the real components.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

mod annotate;
mod diff;
mod migrate;
mod model_exposure;
mod status;
mod tree;

use std::time::Duration;

use testbed::{Operated, TestBed};
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};

/// How long anything may take here.
const LIMIT: Duration = Duration::from_mins(1);

async fn bed() -> Operated<RwLockReadGuard<'static, ()>> {
    TestBed::operated().await.unwrap()
}

async fn bed_alone() -> Operated<RwLockWriteGuard<'static, ()>> {
    TestBed::operated_alone().await.unwrap()
}

/// Runs `kthena-bridge` with all rights, and gives exit code, standard output and standard error.
async fn kthena_bridge(bed: &TestBed, args: &[&str]) -> (i32, String, String) {
    let said = testbed::kthena_bridge(bed.kubeconfig(), args)
        .await
        .unwrap();
    (said.code, said.output, said.error)
}

/// A row of a table by its columns, with the age as `AGE`.
fn columns(line: &str) -> Vec<String> {
    let cells = line.split("   ").map(str::trim).filter(|c| !c.is_empty());
    let is_age = |cell: &str| {
        let unit = |c: char| "smhd".contains(c);
        cell.ends_with(unit) && cell.chars().all(|c| c.is_ascii_digit() || unit(c))
    };
    let shown = |cell: &str| if is_age(cell) { "AGE" } else { cell }.to_owned();
    cells.map(shown).collect()
}

/// The rows of a table below its header.
fn rows(table: &str) -> Vec<Vec<String>> {
    table.lines().skip(1).map(columns).collect()
}
