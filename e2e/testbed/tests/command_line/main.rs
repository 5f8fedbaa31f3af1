//! The command line, as a user runs it against a cluster with all the real components.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

mod annotate;
mod diff;
mod migrate;
mod status;
mod tree;

use std::ops::Deref;
use std::time::Duration;

use testbed::TestBed;
use tokio::process::Command;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How long anything may take here.
const LIMIT: Duration = Duration::from_mins(1);

/// Held by those who rely on the operator, and alone by those who stop it.
static OPERATOR: RwLock<()> = RwLock::const_new(());

/// The bed with the operator, which does not stop while this lives.
struct Bed<G> {
    bed: &'static TestBed,
    _operator: G,
}

impl<G> Deref for Bed<G> {
    type Target = TestBed;
    fn deref(&self) -> &TestBed {
        self.bed
    }
}

async fn bed() -> Bed<RwLockReadGuard<'static, ()>> {
    let bed = with_operator().await;
    Bed {
        bed,
        _operator: OPERATOR.read().await,
    }
}

/// The bed for a test that stops the operator, which no other test uses meanwhile.
async fn bed_alone() -> Bed<RwLockWriteGuard<'static, ()>> {
    let bed = with_operator().await;
    Bed {
        bed,
        _operator: OPERATOR.write().await,
    }
}

async fn with_operator() -> &'static TestBed {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let bed = TestBed::shared().unwrap();
    INSTALLED
        .get_or_init(async || bed.install_operator().await.unwrap())
        .await;
    bed
}

/// Runs `kthena-bridge` with all rights, and gives exit code, standard output and standard error.
async fn kthena_bridge(bed: &TestBed, args: &[&str]) -> (i32, String, String) {
    let binary = testbed::built_binaries().unwrap().join("kthena-bridge");
    let mut command = Command::new(&binary);
    let run = command
        .args(args)
        .env("KUBECONFIG", bed.kubeconfig())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, run)
        .await
        .map_err(|_| format!("kthena-bridge {args:?} has not ended after {LIMIT:?}"))
        .unwrap()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    // Without a code, a signal ended it.
    let code = output.status.code().ok_or(output.status).unwrap();
    (code, text(output.stdout), text(output.stderr))
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
