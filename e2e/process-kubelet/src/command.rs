//! Running small programs to their end.

use std::process::Stdio;

use tokio::{io::AsyncWriteExt as _, process::Command};

/// A program failed.
#[derive(Debug, thiserror::Error)]
#[error("{program}: {said}")]
pub struct Failed {
    program: String,
    said: String,
}

/// Runs a program with `input`; its standard error is the message when it fails.
pub(crate) async fn run(program: &str, args: &[&str], input: &str) -> Result<(), Failed> {
    let failed = |said: String| Failed {
        program: format!("{program} {}", args.join(" ")),
        said,
    };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.as_bytes())
            .await
            .map_err(|e| failed(e.to_string()))?;
    }
    let output = child
        .wait_with_output()
        .await
        .map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(format!(
        "{input}{} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}
