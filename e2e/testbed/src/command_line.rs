//! The command line, as its users run it.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use crate::error::{Context as _, Error, Result};
use crate::images::built_binaries;

/// How long a command may take.
const LIMIT: Duration = Duration::from_mins(1);

/// What a command has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub error: String,
}

/// Runs `kthena-bridge` with a kubeconfig.
pub async fn kthena_bridge(kubeconfig: &Path, args: &[&str]) -> Result<Said> {
    let what = || format!("kthena-bridge {args:?}");
    let mut command = Command::new(built_binaries()?.join("kthena-bridge"));
    let run = command
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .kill_on_drop(true)
        .output();
    let in_time = tokio::time::timeout(LIMIT, run).await;
    let late = |_| Error::Other(format!("{} has not ended after {LIMIT:?}", what()));
    let output = in_time.map_err(late)?.context(what)?;
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).map_err(|e| Error::Other(format!("{}: {e}", what())))
    };
    let code = output
        .status
        .code()
        .ok_or_else(|| Error::Other(format!("{} was ended: {}", what(), output.status)))?;
    Ok(Said {
        code,
        output: text(output.stdout)?,
        error: text(output.stderr)?,
    })
}
