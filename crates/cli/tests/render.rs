//! The `render` command as a user runs it.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

const MODEL: &str = "\
apiVersion: workload.serving.volcano.sh/v1alpha1
kind: ModelBooster
metadata:
  name: demo
spec:
  backend:
    name: backend1
    type: vLLM
    workers:
    - type: server
      config:
        served-model-name: Qwen2.5-0.5B-Instruct
";

fn render(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kthena-bridge"))
        .args(["render", "-f", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_objects_are_printed_in_a_stable_order() {
    let arguments = ["--gateway", "inference-gateway", "--provider", "istio"];
    let first = render(&arguments, MODEL);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert_eq!(render(&arguments, MODEL).stdout, first.stdout);
    let printed = text(&first.stdout);
    let kinds: Vec<&str> = printed
        .lines()
        .filter_map(|l| l.strip_prefix("kind: "))
        .collect();
    assert_eq!(
        kinds,
        [
            "ServiceAccount",
            "RoleBinding",
            "ConfigMap",
            "Service",
            "InferencePool",
            "Deployment",
            "DestinationRule",
            "InferenceModelRewrite",
            "HTTPRoute"
        ]
    );
    assert!(
        text(&first.stderr).contains("no metadata.uid"),
        "{}",
        text(&first.stderr)
    );
}

#[test]
fn a_uid_gives_owner_references() {
    let model = MODEL.replace("  name: demo\n", "  name: demo\n  uid: 0a1b\n");
    let output = render(&["--gateway", "g"], &model);
    let printed = text(&output.stdout);
    assert_eq!(
        printed.matches("uid: 0a1b").count(),
        printed.matches("\nkind: ").count()
    );
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn what_is_among_the_inputs_is_used() {
    let input = format!(
        "{MODEL}---\n{}---\n{}",
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {name: demo-backend1}\nspec: {workloadPort: {port: 9999}}\n",
        "apiVersion: workload.serving.volcano.sh/v1alpha1\nkind: ModelServing\nmetadata: {name: demo-backend1}\nspec: {template: {roles: [{name: leader, entryTemplate: {spec: {containers: [{name: engine, command: [vllm, --model, /m, --served-model-name, other]}]}}}]}}\n",
    );
    let printed = text(&render(&["--gateway", "g"], &input).stdout);
    assert!(printed.contains("number: 9999"), "{printed}");
    assert!(printed.contains("modelRewrite: other"), "{printed}");
}

#[test]
fn bad_input_names_file_document_and_field_and_prints_nothing() {
    let first_good = |second: &str| format!("{MODEL}---\n{second}");
    for (arguments, input, said) in [
        (vec!["--gateway", "g"], "a: [1".to_owned(), "-, document 1"),
        (
            vec!["--gateway", "g"],
            first_good("hello"),
            "-, document 2: has no kind",
        ),
        (
            vec!["--gateway", "g"],
            MODEL.replace("backend1", "[1]"),
            "-, document 1 (ModelBooster demo): field spec.backend.name",
        ),
        (
            vec!["--gateway", "g"],
            MODEL.replace("v1alpha1", "v9"),
            "field apiVersion",
        ),
        (
            vec!["--gateway", "g"],
            MODEL.replace("name: demo", "a: b"),
            "field metadata.name",
        ),
        (
            vec!["--gateway", "A"],
            MODEL.to_owned(),
            "kthena-bridge.io/gateway",
        ),
        (vec![], MODEL.to_owned(), "give --gateway"),
        (
            vec!["--gateway", "g"],
            "# nothing\n".to_owned(),
            "there is no ModelBooster and no ModelExposure in -",
        ),
        (
            vec!["--gateway", "g"],
            MODEL.replace("type: vLLM", "type: vLLMDisaggregated"),
            "pod-selector",
        ),
    ] {
        let output = render(&arguments, &input);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said), "{error}\nshould say {said}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kthena-bridge"))
        .args(["render", "-f", "-", "--gateway", "inference-gateway"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    input.write_all(MODEL.as_bytes()).unwrap();
    drop(input);
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", text(&ended.stderr));
}
