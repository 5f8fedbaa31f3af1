//! `kthena-bridge diff`.

use kthena_bridge_api::child::{ChildKind, LABEL_MANAGED_BY};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testbed::{Model, TestBed};

use crate::{LIMIT, bed, bed_alone, kthena_bridge};

/// What is said of the configuration when none is given.
const ORIGIN: &str = "note: the operator's configuration is that of ConfigMap \
                      kthena-bridge-system/kthena-bridge, config.yaml\n";

/// Exit code, standard output with the Model's uid as `UID`, and standard error.
async fn diff(bed: &TestBed, model: &Model<'_>, more: &[&str]) -> (i32, String, String) {
    let args = [&["diff", "-n", model.namespace()], more].concat();
    let (code, diff, error) = kthena_bridge(bed, &args).await;
    let uid = model.get().await.unwrap().metadata.uid.unwrap();
    (code, diff.replace(&uid, "UID"), error)
}

#[tokio::test]
async fn nothing_differs_where_the_operator_is_done() {
    let bed = bed().await;
    let namespace = bed.namespace("same").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let priority = [("priority", Some("1"))];
    model.expose("inference-gateway", &priority).await.unwrap();
    let said = (0, String::new(), ORIGIN.to_owned());
    assert_eq!(diff(&bed, &model, &[]).await, said);
    assert_eq!(diff(&bed, &model, &["demo"]).await, said);
}

#[tokio::test]
async fn what_differs_is_shown_until_the_operator_mends_it() {
    let bed = bed_alone().await;
    let namespace = bed.namespace("edited").await.unwrap();
    let here = namespace.name();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    bed.scale_operator(0).await.unwrap();
    let routes = model.children_api(ChildKind::HTTPRoute).unwrap();
    let path = json!({"path": {"type": "PathPrefix", "value": "/elsewhere"}});
    let edit = json!({"spec": {"rules": [{"matches": [path]}]}});
    let edit = Patch::Merge(&edit);
    routes
        .patch("demo", &PatchParams::default(), &edit)
        .await
        .unwrap();
    let annotate = async |annotations: &[(&str, Option<&str>)]| {
        model.annotate(annotations).await.unwrap();
        diff(&bed, &model, &[]).await
    };
    let edited = annotate(&[]).await;
    let prioritised = annotate(&[("priority", Some("2"))]).await;
    let hidden = annotate(&[("expose", None)]).await;
    let paused = annotate(&[("expose", Some("true")), ("paused", Some("true"))]).await;
    let mistaken = annotate(&[("paused", None), ("priority", Some("high"))]).await;
    let services = model.children_api(ChildKind::Service).unwrap();
    let strip = json!({"metadata": {"labels": {LABEL_MANAGED_BY: null}}});
    let strip = Patch::Merge(&strip);
    services
        .patch("demo-epp", &PatchParams::default(), &strip)
        .await
        .unwrap();
    let stripped = annotate(&[("priority", None)]).await;
    bed.scale_operator(1).await.unwrap();

    let (code, text, error) = edited;
    assert_eq!((code, error.as_str()), (1, ORIGIN));
    assert_eq!(text, EDITED.replace("NAMESPACE", here));

    let (code, text, _) = prioritised;
    assert_eq!(code, 1);
    let both = format!("{OBJECTIVE}{EDITED}");
    assert_eq!(text, both.replace("NAMESPACE", here));

    let (code, text, error) = hidden;
    assert_eq!((code, error.as_str()), (1, ORIGIN));
    let removed: Vec<&str> = text.lines().filter(|l| l.starts_with("--- ")).collect();
    assert_eq!(
        removed,
        [
            ("ServiceAccount", "demo-epp"),
            ("RoleBinding", "demo-epp"),
            ("ConfigMap", "demo-epp"),
            ("Service", "demo-epp"),
            ("InferencePool", "demo"),
            ("Deployment", "demo-epp"),
            ("DestinationRule", "demo-epp"),
            ("InferenceModelRewrite", "demo"),
            ("HTTPRoute", "demo"),
        ]
        .map(|(kind, name)| format!("--- {kind} {here}/{name} (live)"))
    );
    assert_eq!(text.matches("\n+++ /dev/null\n").count(), removed.len());

    let (code, text, error) = paused;
    assert_eq!((code, text.as_str()), (0, ""));
    let said = format!("note: ModelBooster {here}/demo is paused");
    assert!(error.contains(&said), "{error}");

    let (code, text, error) = mistaken;
    assert_eq!((code, text.as_str()), (2, ""));
    let said = format!(
        "error: ModelBooster {here}/demo is not accepted, and nothing is written until it is: InvalidAnnotation: \
         annotation \"kthena-bridge.io/priority\": \"high\""
    );
    assert!(error.contains(&said), "{error}");

    // No list by label has it, and it is found all the same.
    let (code, text, error) = stripped;
    assert_eq!((code, error.as_str()), (1, ORIGIN));
    let both = format!("{STRIPPED}{EDITED}");
    assert_eq!(text, both.replace("NAMESPACE", here));

    let mended = bed.wait_for("nothing differs any more", LIMIT, async || {
        match diff(&bed, &model, &[]).await {
            (0, _, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    mended.await.unwrap();
}

const EDITED: &str = "\
--- HTTPRoute NAMESPACE/demo (live)
+++ HTTPRoute NAMESPACE/demo (desired)
@@ -20,7 +20,14 @@
     name: inference-gateway
     namespace: NAMESPACE
   rules:
-  - matches:
+  - backendRefs:
+    - group: inference.networking.k8s.io
+      kind: InferencePool
+      name: demo
+      weight: 1
+    matches:
     - path:
         type: PathPrefix
-        value: /elsewhere
+        value: /
+    timeouts:
+      request: 300s
";

const STRIPPED: &str = "\
--- Service NAMESPACE/demo-epp (live)
+++ Service NAMESPACE/demo-epp (desired)
@@ -2,6 +2,7 @@
 kind: Service
 metadata:
   labels:
+    app.kubernetes.io/managed-by: kthena-bridge
     kthena-bridge.io/model: demo
   name: demo-epp
   namespace: NAMESPACE
";

const OBJECTIVE: &str = "\
--- /dev/null
+++ InferenceObjective NAMESPACE/demo (desired)
@@ -0,0 +1,21 @@
+apiVersion: inference.networking.x-k8s.io/v1alpha2
+kind: InferenceObjective
+metadata:
+  labels:
+    app.kubernetes.io/managed-by: kthena-bridge
+    kthena-bridge.io/model: demo
+  name: demo
+  namespace: NAMESPACE
+  ownerReferences:
+  - apiVersion: workload.serving.volcano.sh/v1alpha1
+    blockOwnerDeletion: false
+    controller: true
+    kind: ModelBooster
+    name: demo
+    uid: UID
+spec:
+  poolRef:
+    group: inference.networking.k8s.io
+    kind: InferencePool
+    name: demo
+  priority: 2
";

#[tokio::test]
async fn a_file_is_compared_as_if_it_were_applied() {
    let bed = bed().await;
    let namespace = bed.namespace("file").await.unwrap();
    let here = namespace.name();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    let file = bed.dir().join(format!("{here}.json"));
    let path = file.to_str().unwrap();
    let with = |name: &str, annotations: Value| {
        let mut manifest = bed.example(name).unwrap();
        manifest["metadata"]["annotations"] = annotations;
        std::fs::write(&file, manifest.to_string()).unwrap();
    };

    with("demo", json!({}));
    let said = (0, String::new(), ORIGIN.to_owned());
    assert_eq!(diff(&bed, &model, &["-f", path]).await, said);

    with("demo", json!({"kthena-bridge.io/request-timeout": "17s"}));
    let (code, text, error) = diff(&bed, &model, &["-f", path]).await;
    assert_eq!((code, error.as_str()), (1, ORIGIN));
    let timeout = format!(
        "--- HTTPRoute {here}/demo (live)\n+++ HTTPRoute {here}/demo (desired)\n@@ -30,4 +30,4 @@\n         type: \
         PathPrefix\n         value: /\n     timeouts:\n-      request: 300s\n+      request: 17s\n"
    );
    assert_eq!(text, timeout);

    // What is to be served for the first time, at a path of its own, and at one that is taken.
    let expose =
        |path: &str| json!({"kthena-bridge.io/expose": "true", "kthena-bridge.io/path": path});
    with("other", expose("/other"));
    let (code, text, error) = diff(&bed, &model, &["-f", path]).await;
    assert_eq!(code, 1, "{error}");
    let said = format!("ModelBooster {here}/other is not in the cluster");
    assert!(error.contains(&said), "{error}");
    let added: Vec<&str> = text.lines().filter(|l| l.starts_with("+++ ")).collect();
    assert_eq!(added.len(), 9, "{added:?}");
    assert_eq!(added[8], format!("+++ HTTPRoute {here}/other (desired)"));
    let rewritten = "+    - modelRewrite: Qwen2.5-0.5B-Instruct";
    assert!(text.contains(rewritten), "{text}");

    with("other", expose("/"));
    let (code, text, error) = diff(&bed, &model, &["-f", path]).await;
    assert_eq!((code, text.as_str()), (2, ""));
    assert!(error.contains("RouteConflict: ModelBooster"), "{error}");

    std::fs::write(&file, "kind: Pod").unwrap();
    let (code, _, error) = diff(&bed, &model, &["-f", path]).await;
    assert_eq!(code, 2);
    assert!(
        error.contains("there is no ModelBooster and no ModelExposure in"),
        "{error}"
    );

    std::fs::write(&file, "hostnameTemplate: '{name}.example.com'\n").unwrap();
    let (code, text, error) = diff(&bed, &model, &["--config", path]).await;
    assert_eq!((code, error.as_str()), (1, ""));
    let hosts = "\n+  hostnames:\n+  - demo.example.com\n";
    assert!(text.contains(hosts), "{text}");
}

#[tokio::test]
async fn an_object_of_somebody_else_is_named() {
    let bed = bed().await;
    let namespace = bed.namespace("theirs").await.unwrap();
    let here = namespace.name();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo-epp"},
        "spec": {"ports": [{"port": 1}]}});
    namespace.apply(&service.to_string()).await.unwrap();
    model.annotate(&[("expose", Some("true"))]).await.unwrap();
    let conflict = model.wait_for_reason("Accepted", "NameConflict").await;
    conflict.unwrap();
    let (code, _, error) = diff(&bed, &model, &[]).await;
    assert_eq!(code, 2, "{error}");
    let said = format!(
        "error: ModelBooster {here}/demo: Service {here}/demo-epp exists and does not belong to it; it is left alone: \
         remove or rename it\n"
    );
    assert!(error.contains(&said), "{error}");
    let (_, tree, _) = kthena_bridge(&bed, &["tree", "demo", "-n", here]).await;
    let line = tree.lines().find(|l| l.contains("Service demo-epp"));
    assert!(
        line.is_some_and(|l| l.ends_with("belongs to somebody else")),
        "{tree}"
    );
}
