//! `kthena-bridge annotate`.

use kube::api::DynamicObject;
use serde_json::{Value, json};
use testbed::Model;

use crate::{bed, kthena_bridge};

/// The annotations of ours on a Model, without the prefix.
async fn ours(model: &Model<'_>) -> Vec<(String, String)> {
    let annotations = model
        .get()
        .await
        .unwrap()
        .metadata
        .annotations
        .unwrap_or_default();
    annotations
        .into_iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("kthena-bridge.io/")?.to_owned(), value)))
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_model_is_exposed_changed_and_taken_off_by_flags() {
    let bed = bed().await;
    let namespace = bed.namespace("annotate").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model
        .patch(&json!({"metadata": {"annotations": {"team": "a"}}}))
        .await
        .unwrap();
    let run = async |flags: &[&str]| {
        let all = [&["annotate", "demo", "-n", namespace.name()], flags].concat();
        kthena_bridge(&bed, &all).await
    };

    let (code, out, error) = run(&["--path=/demo", "--dry-run"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("nothing is written"), "{out}");
    assert!(out.contains("+ kthena-bridge.io/path: \"/demo\""), "{out}");
    assert_eq!(ours(&model).await, []);

    let flags = [
        "--gateway=inference-gateway",
        "--path=/demo",
        "--priority",
        "-1",
    ];
    let (code, out, error) = run(&flags).await;
    assert_eq!(code, 0, "{error}");
    let set = [
        ("expose", "true"),
        ("gateway", "inference-gateway"),
        ("path", "/demo"),
        ("priority", "-1"),
    ];
    assert_eq!(ours(&model).await, pairs(&set), "{out}");
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    let (_, out, _) = run(&flags).await;
    assert!(out.ends_with("unchanged\n"), "{out}");

    // What the operator would not accept is not written, and told in its words.
    for (flags, code, said) in [
        (
            ["--gateway=elsewhere", "--priority=2"],
            1,
            "GatewayNotFound: Gateway",
        ),
        (
            ["--gateway=inference-gateway:web", "--priority=2"],
            1,
            "ListenerNotFound: Gateway",
        ),
        (
            ["--path=demo", "--priority=2"],
            2,
            "\"demo\" does not start with a slash",
        ),
        (
            ["--match-model", "--priority=2"],
            2,
            "set modelHeader: provided in the operator's configuration",
        ),
    ] {
        let (exit, out, error) = run(&flags).await;
        assert_eq!((exit, out.as_str()), (code, ""), "{flags:?}: {error}");
        assert!(error.contains(said), "{flags:?}: {error}");
    }
    assert_eq!(ours(&model).await, pairs(&set));

    let (code, out, error) = run(&["--reset", "priority", "path"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("- kthena-bridge.io/priority: \"-1\""), "{out}");
    assert_eq!(ours(&model).await, pairs(&set[..2]));
    let (code, _, error) = run(&["--unexpose", "--reset=all"]).await;
    assert_eq!(code, 0, "{error}");
    model.wait_until_withdrawn().await.unwrap();
    let annotations = model.get().await.unwrap().metadata.annotations.unwrap();
    assert_eq!(
        annotations.get("team").map(String::as_str),
        Some("a"),
        "{annotations:?}"
    );
    assert_eq!(ours(&model).await, []);
}

#[tokio::test]
async fn a_path_that_another_model_has_is_refused_unless_it_is_forced() {
    let bed = bed().await;
    let namespace = bed.namespace("annotate-taken").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let first = namespace.model("first").await.unwrap();
    first
        .expose("inference-gateway", &[("path", Some("/taken"))])
        .await
        .unwrap();
    let second = namespace.model("second").await.unwrap();
    second.wait_for_condition("Active", "True").await.unwrap();
    let flags = [
        "annotate",
        "second",
        "-n",
        namespace.name(),
        "--path=/taken",
    ];
    let (code, out, error) = kthena_bridge(&bed, &flags).await;
    assert_eq!((code, out.as_str()), (1, ""), "{error}");
    let said = format!(
        "RouteConflict: ModelBooster {}/first has any host, path /taken",
        namespace.name()
    );
    assert!(error.contains(&said), "{error}");
    assert_eq!(ours(&second).await, []);
    let (code, _, error) = kthena_bridge(&bed, &[&flags[..], &["--force"]].concat()).await;
    assert_eq!(code, 0, "{error}");
    let conflict = second
        .wait_for_reason("Accepted", "RouteConflict")
        .await
        .unwrap();
    assert!(
        error.is_empty() || !error.contains("RouteConflict"),
        "{error}"
    );
    assert!(
        conflict
            .message
            .contains("/first has any host, path /taken"),
        "{}",
        conflict.message
    );
}

#[tokio::test]
async fn what_is_printed_for_git_makes_the_same_model() {
    let bed = bed().await;
    let namespace = bed.namespace("annotate-git").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let flags = [
        "annotate",
        "demo",
        "-n",
        namespace.name(),
        "--path=/demo",
        "-o",
        "yaml",
    ];
    let (code, yaml, error) = kthena_bridge(&bed, &flags).await;
    assert_eq!(code, 0, "{error}");
    assert_eq!(ours(&model).await, [], "nothing is written");
    let printed: Value = serde_yaml::from_str(&yaml).unwrap();
    assert!(
        printed.get("status").is_none() && printed["metadata"].get("uid").is_none(),
        "{yaml}"
    );
    assert_eq!(
        printed["metadata"]["annotations"]["kthena-bridge.io/path"],
        "/demo"
    );
    let applied: Vec<DynamicObject> = namespace.apply(&yaml).await.unwrap();
    assert_eq!(applied[0].data["spec"], printed["spec"]);
    assert_eq!(
        ours(&model).await,
        pairs(&[("expose", "true"), ("path", "/demo")])
    );

    let (code, _, error) =
        kthena_bridge(&bed, &["annotate", "nobody", "-n", namespace.name()]).await;
    assert_eq!(code, 1, "{error}");
    let said = format!("there is no ModelBooster {}/nobody", namespace.name());
    assert!(error.contains(&said), "{error}");
}
