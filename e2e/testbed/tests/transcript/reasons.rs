//! The commands of `docs/reasons.md`, for a Model that is served: those that look are run as they stand, those that
//! change something with `--dry-run=server`, and the rest is listed here with why it is not run.

use testbed::document::{blocks, read};

use crate::script::{Command, commands};
use crate::{REASONS, User};

/// A ModelExposure beside the annotated Model: of a ModelServer over the same pods, which nobody made a ModelBooster for.
const EXPOSURE: &str = r"
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {name: other}
spec:
  model: Qwen2.5-0.5B-Instruct
  inferenceEngine: vLLM
  workloadSelector: {matchLabels: {modelserving.volcano.sh/name: demo-backend1}}
  workloadPort: {port: 8000}
---
apiVersion: kthena-bridge.io/v1alpha1
kind: ModelExposure
metadata: {name: other}
spec:
  targetRef: {kind: ModelServer, name: other}
  gateways: [{name: inference-gateway}]
  path: /other
";

/// Commands that are not run, by what they have in them.
const NOT_RUN: [(&str, &str); 9] = [
    (
        "condition=Reachable",
        "the operator is not told to send requests",
    ),
    ("kubectl logs", "the bed's kubelet serves no logs"),
    (" logs deployment/", "the bed's kubelet serves no logs"),
    ("kubectl run ", "it needs an image with curl"),
    ("https://", "it needs the Internet"),
    ("-n istio-system", "the bed has a stand-in for istiod"),
    ("<file>", "it is about an authority of one's own"),
    (
        "get deployments -A | grep kthena",
        "the bed runs Kthena as a process",
    ),
    ("rollout restart", "kubectl has no dry run for it"),
];
/// Verbs of kubectl that only look.
const LOOKS: [&str; 6] = [
    " get ",
    " describe ",
    " wait ",
    " events ",
    " can-i ",
    " rollout status ",
];
/// Verbs that have a dry run.
const CHANGES: [&str; 8] = [
    " annotate ",
    " label ",
    " patch ",
    " delete ",
    " apply ",
    " create ",
    " set env ",
    " scale ",
];

/// What a command is filled in with.
fn filled(command: &str, namespace: &str, address: &str) -> String {
    let values = [
        ("<model>", "demo"),
        ("<exposure>", "other"),
        ("<namespace>", namespace),
        ("<gateway-namespace>", namespace),
        ("<other-namespace>", namespace),
        ("<kthena-namespace>", namespace),
        ("<gateway>", "inference-gateway"),
        ("<listener>", "http"),
        ("<other>", "demo"),
        ("<kind>", "httproute"),
        ("kthena-bridge.io/<key>", "kthena-bridge.io/path"),
        ("path=<value>", "path=/demo"),
        ("<key>=<value>", "team=a"),
        ("<name>", "demo"),
        ("<service>:<port>", "my-picker:9002"),
        ("<service>", "demo-epp"),
        ("<port>/<path>/v1", "80/v1"),
        ("<address>", address),
        ("<host>", "demo"),
        ("<port>", "8000"),
        ("<index>", "0"),
        ("<served-name>", "Qwen2.5-0.5B-Instruct"),
        ("<modelserving>", "demo-backend1"),
        ("<role>", "leader"),
        ("<labels>", "modelserving.volcano.sh/name=demo-backend1"),
        ("<cluster-role>", "kthena-bridge-endpoint-picker"),
        (
            "<verb> <resource>.<group>",
            "list httproutes.gateway.networking.k8s.io",
        ),
    ];
    let fill = |text: String, (place, value): &(&str, &str)| text.replace(place, value);
    values.iter().fold(command.to_owned(), fill)
}

pub(crate) async fn follow(user: &mut User<'_>) {
    let namespace = user.namespace.name().to_owned();
    let bed = user.namespace.bed();
    let address = bed.gateway_address(&namespace, "inference-gateway").await;
    let address = address.unwrap().to_string();
    user.namespace.apply(EXPOSURE).await.unwrap();
    let mut ran = 0;
    for (place, line) in written(&read(REASONS).unwrap()) {
        if NOT_RUN.iter().any(|(part, _)| line.contains(part)) {
            continue;
        }
        let mut line = filled(&line, &namespace, &address);
        assert!(
            !line.contains('<'),
            "{place}: nothing is known to fill in {line}"
        );
        if CHANGES.iter().any(|verb| line.contains(verb)) {
            line.push_str(" --dry-run=server");
        } else {
            let looks = LOOKS.iter().any(|verb| line.contains(verb))
                || line.starts_with("curl ")
                // The editor of the user saves nothing.
                || line.contains(" edit ");
            assert!(looks, "{place}: say whether {line} only looks");
        }
        let command = Command { line, output: None };
        user.run(&place, &command, 0).await;
        ran += 1;
    }
    assert!(ran >= 80, "{ran}");
}

/// The commands in blocks, and those that an entry says to verify by, with where they stand.
fn written(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for block in blocks(text).iter().filter(|b| b.language == "console") {
        let place = format!("{REASONS}:{}", block.line);
        let lines = commands(&block.text).into_iter();
        all.extend(lines.map(|command| (place.clone(), command.line)));
    }
    for (number, line) in text.lines().enumerate() {
        let verify = line.strip_prefix("**Verify**: `");
        let Some((command, _)) = verify.and_then(|rest| rest.split_once('`')) else {
            continue;
        };
        if command.starts_with("kubectl ") {
            all.push((format!("{REASONS}:{}", number + 1), command.to_owned()));
        }
    }
    all
}
