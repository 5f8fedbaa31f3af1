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
fn a_bad_configuration_names_file_field_and_value() {
    let file = std::env::temp_dir().join(format!("kthena-bridge-{}.yaml", std::process::id()));
    let path = file.to_str().unwrap();
    for (text, said) in [
        (
            "endpointPicker: {resources: {requests: {cpu: one}}}",
            "field endpointPicker.resources.requests.cpu: \"one\" is not an amount",
        ),
        (
            "endpointPicker: {flavour: other}",
            "field endpointPicker.flavour: unknown variant `other`, expected `gie` or `llm-d`",
        ),
        (
            "failuremode: FailOpen",
            "field failuremode: unknown field `failuremode`, expected one of",
        ),
        (
            "logLevel: loud",
            "field logLevel: \"loud\" is not off, error",
        ),
        ("a: [1", "while parsing a flow"),
    ] {
        std::fs::write(&file, text).unwrap();
        let (code, error) = run(&["--config", path]);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(path) && error.contains(said), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    let (code, error) = run(&["--config", path]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains(path) && error.contains("No such file"),
        "{error}"
    );
}

#[test]
fn the_schema_of_the_configuration_is_printed() {
    let output = Command::new(env!("CARGO_BIN_EXE_kthena-bridge"))
        .arg("config-schema")
        .output()
        .unwrap();
    assert!(output.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        schema["properties"]["clusterDomain"]["default"],
        "cluster.local"
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
