//! The real kubectl, which computes what differs as Argo CD and Flux do: by asking the API server.

use std::process::Stdio;

use serde_json::Value;
use testbed::TestBed;
use testbed::document::in_repository;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) complaint: String,
}

/// Runs a command in the repository's folder, with kubectl in its path and all rights on the bed.
pub(crate) async fn run_any(bed: &TestBed, program: &str, args: &[&str], stdin: &str) -> Said {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new(program)
        .args(args)
        .current_dir(in_repository(""))
        .env(
            "PATH",
            format!("{}:{path}", bed.parts().join("bin").display()),
        )
        .env("KUBECONFIG", bed.kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(stdin.as_bytes()).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    Said {
        code: output.status.code(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        complaint: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

async fn kubectl(bed: &TestBed, args: &[&str], stdin: &str) -> Said {
    let binary = bed.parts().join("bin/kubectl");
    run_any(bed, binary.to_str().unwrap(), args, stdin).await
}

/// Runs kubectl, and gives what it says; an error with that when it fails.
pub(crate) async fn run(bed: &TestBed, args: &[&str], stdin: &str) -> Result<String, String> {
    let said = kubectl(bed, args, stdin).await;
    if said.code == Some(0) {
        return Ok(said.output);
    }
    Err(format!(
        "kubectl {args:?}: {:?}: {}",
        said.code, said.complaint
    ))
}

/// What `kubectl diff` finds between a manifest and the cluster: nothing is empty.
pub(crate) async fn diff(bed: &TestBed, args: &[&str], manifest: &Value) -> Result<String, String> {
    let args = [&["diff", "-f", "-"], args].concat();
    let said = kubectl(bed, &args, &manifest.to_string()).await;
    match said.code {
        Some(0) if said.output.is_empty() => Ok(String::new()),
        Some(1) if !said.output.is_empty() => Ok(said.output),
        code => Err(format!("kubectl {args:?}: {code:?}: {}", said.complaint)),
    }
}

/// An object, as it is now.
pub(crate) async fn get(
    bed: &TestBed,
    namespace: &str,
    resource: &str,
    name: &str,
) -> Result<Value, String> {
    let args = [
        "get",
        resource,
        name,
        "--namespace",
        namespace,
        "--output=json",
        "--show-managed-fields",
    ];
    let text = run(bed, &args, "").await?;
    serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))
}
