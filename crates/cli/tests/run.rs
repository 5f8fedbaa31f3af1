//! The `run` command where it cannot run: it says why, and ends.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::process::Command;

/// Exit code and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kthena-bridge"))
        .arg("run")
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn without_a_cluster_it_says_how_to_name_one() {
    let (code, error) = run(&[]);
    assert_eq!(code, Some(1));
    assert!(error.contains("KUBECONFIG"), "{error}");
}

#[test]
fn a_bad_configuration_names_file_and_field() {
    let file = std::env::temp_dir().join(format!("kthena-bridge-{}.yaml", std::process::id()));
    std::fs::write(
        &file,
        "endpointPicker: {resources: {requests: {cpu: one}}}\n",
    )
    .unwrap();
    let (code, error) = run(&["--config", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(code, Some(2));
    assert!(
        error.contains("endpointPicker.resources.requests.cpu")
            && error.contains(file.to_str().unwrap()),
        "{error}"
    );
}

#[test]
fn bad_flags_are_refused() {
    let (code, error) = run(&["--log", "a=b=c"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("--log"), "{error}");
    assert_eq!(run(&["--concurrency", "0"]).0, Some(2));
    assert_eq!(run(&["--listen", "here"]).0, Some(2));
}
