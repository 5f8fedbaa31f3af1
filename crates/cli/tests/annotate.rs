//! `annotate` on files, as a user runs it. On a cluster, it is tested end to end.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::io::Write;
use std::process::{Command, Stdio};

const MODELS: &str = "\
kind: ConfigMap
apiVersion: v1
data:
  z: first
  a: second
---
kind: ModelBooster
apiVersion: workload.serving.volcano.sh/v1alpha1
metadata:
  name: demo
  annotations:
    zone: kept
    kthena-bridge.io/path: /old
    kthena-bridge.io/priority: '1'
spec:
  backend:
    type: vLLM
    name: backend1
---
apiVersion: workload.serving.volcano.sh/v1alpha1
kind: ModelBooster
metadata:
  name: other
spec: {}
";

/// Exit code, standard output and standard error.
fn annotate(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kthena-bridge"))
        .args(["annotate", "-f", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn only_annotations_change_and_all_else_stays_in_its_place() {
    let (code, out, error) = annotate(
        &["demo", "--path", "/new", "--gateway=g", "--reset=priority"],
        MODELS,
    );
    assert_eq!(code, Some(0), "{error}");
    insta::assert_snapshot!(out);
    // What comes out goes in, and nothing is left to change.
    let (_, again, _) = annotate(&["demo", "--path", "/new", "--gateway=g"], &out);
    assert_eq!(again, out);
}

#[test]
fn all_models_are_annotated_where_none_is_named() {
    let (_, out, _) = annotate(&["--gateway=g"], MODELS);
    assert_eq!(
        out.matches("kthena-bridge.io/gateway: g").count(),
        2,
        "{out}"
    );
    let (_, out, _) = annotate(&["--unexpose", "--reset=all"], &out);
    assert_eq!(out.matches("kthena-bridge.io").count(), 0, "{out}");
    assert_eq!(out.matches("annotations:").count(), 1, "{out}");
}

#[test]
fn what_the_operator_would_refuse_is_refused_in_its_words() {
    for (arguments, said) in [
        (
            vec!["demo", "--path=no-slash"],
            "annotation \"kthena-bridge.io/path\": \"no-slash\" does not start with a slash",
        ),
        (vec!["demo", "--priority=much"], "is not a whole number"),
        (vec!["demo", "--match-model"], "modelHeader: provided"),
        (
            vec!["nobody", "--path=/"],
            "there is no ModelBooster nobody in -",
        ),
        (vec!["demo", "--failure-mode=failopen"], "FailOpen"),
        (
            vec!["demo", "--paused=perhaps"],
            "possible values: true, false",
        ),
    ] {
        let (code, out, error) = annotate(&arguments, MODELS);
        assert_eq!(
            (code, out.as_str()),
            (Some(2), ""),
            "{arguments:?}: {error}"
        );
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn a_file_that_is_wrong_is_named_with_document_and_field() {
    let unquoted = MODELS.replace("priority: '1'", "priority: 1");
    for (input, said) in [
        (unquoted.as_str(), "-, document 2: metadata.annotations: "),
        ("a: [1", "-, document 1: "),
        ("kind: Pod", "there is no ModelBooster at all in -"),
    ] {
        let (code, out, error) = annotate(&["--path=/"], input);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{error}");
        assert!(error.contains(said), "{error}");
    }
}
