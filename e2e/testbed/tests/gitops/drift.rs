//! Nothing that the bridge does is seen as drift, and nothing that it makes is taken for a part of the Git
//! repository. Argo CD and Flux are not run: kubectl applies and compares in their ways and under their names.

use kthena_bridge_api::FIELD_MANAGER;
use kthena_bridge_api::annotation::{EXPOSE, PATH};
use serde_json::{Value, json};
use testbed::health::Health;
use testbed::{Model, Namespace, TestBed};

use crate::{LIMIT, bed, kubectl, models, read};

const SAMPLE: &str = "config/samples/modelbooster.yaml";
const GATEWAY: &str = "inference-gateway";

/// A tool that applies what stands in Git.
struct Tool {
    /// Arguments of both `kubectl apply` and `kubectl diff`.
    arguments: &'static [&'static str],
    /// By which it knows what it applied.
    labels: Value,
    annotations: Value,
}

/// Argo CD with `ServerSideApply=true`, and with its label and its annotation, of which it uses one by default.
/// <https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/>
fn argo_cd(namespace: &str) -> Tool {
    let id = format!("models:workload.serving.volcano.sh/ModelBooster:{namespace}/demo");
    Tool {
        arguments: &[
            "--server-side",
            "--force-conflicts",
            "--field-manager=argocd-controller",
        ],
        labels: json!({"app.kubernetes.io/instance": "models"}),
        annotations: json!({"argocd.argoproj.io/tracking-id": id}),
    }
}

/// Flux, which applies server-side only.
/// <https://fluxcd.io/flux/components/kustomize/kustomizations/#controlling-the-apply-behavior-of-resources>
fn flux(_: &str) -> Tool {
    Tool {
        arguments: &[
            "--server-side",
            "--force-conflicts",
            "--field-manager=kustomize-controller",
        ],
        labels: json!({
            "kustomize.toolkit.fluxcd.io/name": "models",
            "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
        }),
        annotations: json!({}),
    }
}

/// Argo CD without `ServerSideApply=true`: a three-way merge with what was applied last.
fn argo_cd_client_side(namespace: &str) -> Tool {
    Tool {
        arguments: &["--field-manager=argocd-controller"],
        ..argo_cd(namespace)
    }
}

impl Tool {
    /// The Model of the samples as the tool applies it.
    fn manifest(&self, namespace: &str) -> Value {
        let mut model: Value = serde_yaml::from_str(&read(SAMPLE)).unwrap();
        model["metadata"]["namespace"] = namespace.into();
        for (field, tracking) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            for (key, value) in tracking.as_object().unwrap() {
                model["metadata"][field][key] = value.clone();
            }
        }
        model
    }

    async fn apply(&self, bed: &TestBed, manifest: &Value) {
        let args = [&["apply", "-f", "-"], self.arguments].concat();
        kubectl::run(bed, &args, &manifest.to_string())
            .await
            .unwrap();
    }

    async fn diff(&self, bed: &TestBed, manifest: &Value) -> String {
        kubectl::diff(bed, self.arguments, manifest).await.unwrap()
    }
}

async fn live(bed: &TestBed, namespace: &Namespace<'_>) -> Result<Value, String> {
    kubectl::get(bed, namespace.name(), "modelboosters", "demo").await
}

async fn wait_for_health(bed: &TestBed, namespace: &Namespace<'_>, health: Health) {
    let what = format!("Argo CD and Flux take the Model for {health:?}");
    let looked = bed.wait_for(what, LIMIT, async || {
        let live = live(bed, namespace).await?;
        let verdicts = models(std::slice::from_ref(&live));
        verdicts[0]
            .is(health)
            .map_err(|e| format!("{e}\n{:#}", live["status"]))
    });
    looked.await.unwrap();
}

/// Every field that the bridge owns of the Model is one of the status.
fn only_the_status_is_ours(live: &Value) {
    let entries = live["metadata"]["managedFields"].as_array().unwrap();
    let ours: Vec<&Value> = entries
        .iter()
        .filter(|e| e["manager"] == FIELD_MANAGER)
        .collect();
    assert!(!ours.is_empty(), "{entries:#?}");
    for entry in ours {
        assert_eq!(entry["subresource"], "status", "{entry:#}");
        let fields = entry["fieldsV1"].as_object().unwrap();
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["f:status"], "{entry:#}");
        let status = fields["f:status"].as_object().unwrap();
        assert_eq!(
            status.keys().collect::<Vec<_>>(),
            ["f:conditions"],
            "{entry:#}"
        );
    }
}

/// Neither the objects of the bridge nor what comes of them can be taken for something that the tool applied.
async fn nothing_is_tracked(bed: &TestBed, model: &Model<'_>, uid: &Value, tool: &Tool) {
    let children = model.children().await.unwrap();
    assert!(children.len() >= 8, "{}", children.len());
    for (kind, child) in &children {
        let owners = child.metadata.owner_references.as_ref().unwrap();
        let [owner] = &owners[..] else {
            panic!("{kind} has the owners {owners:#?}")
        };
        // By these, Argo CD draws it below its Model.
        assert_eq!(owner.kind, "ModelBooster");
        assert_eq!(owner.uid, uid.as_str().unwrap());
        assert_eq!(owner.controller, Some(true));
    }
    let keys: Vec<&String> = [&tool.labels, &tool.annotations]
        .into_iter()
        .flat_map(|map| map.as_object().unwrap().keys())
        .collect();
    let mut objects: Vec<Value> = children
        .iter()
        .map(|(_, child)| serde_json::to_value(child).unwrap())
        .collect();
    let more = "replicasets,pods,endpointslices,modelservings,modelservers,modelroutes";
    let args = [
        "get",
        more,
        "--namespace",
        model.namespace(),
        "--output=json",
    ];
    let said = kubectl::run(bed, &args, "").await.unwrap();
    let list: Value = serde_json::from_str(&said).unwrap();
    let more = list["items"].as_array().unwrap();
    assert!(more.len() >= 5, "{}", more.len());
    objects.extend(more.iter().cloned());
    for object in &objects {
        for key in &keys {
            // In the labels, in the annotations, and in the template of a pod.
            assert!(!object.to_string().contains(*key), "{key} in {object:#}");
        }
    }
}

/// What is compared is read twice: a condition that is written between looks like a difference once, and no more.
async fn no_difference_is_left(bed: &TestBed, tool: &Tool, manifest: &Value) {
    let looked = bed.wait_for("no difference is left", LIMIT, async || {
        let differs = tool.diff(bed, manifest).await;
        if differs.is_empty() {
            Ok(())
        } else {
            Err(differs)
        }
    });
    looked.await.unwrap();
}

/// The life of a Model in Git: what a tool sees of it at each step.
async fn is_kept(name: &str, tool_for: fn(&str) -> Tool) {
    let bed = bed().await;
    let namespace = bed.namespace(name).await.unwrap();
    namespace.gateway(GATEWAY).await.unwrap();
    let tool = tool_for(namespace.name());
    let manifest = tool.manifest(namespace.name());
    tool.apply(bed, &manifest).await;
    let model = namespace.model_named("demo").unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    wait_for_health(bed, &namespace, Health::Healthy).await;

    no_difference_is_left(bed, &tool, &manifest).await;
    let before = live(bed, &namespace).await.unwrap();
    only_the_status_is_ours(&before);
    nothing_is_tracked(bed, &model, &before["metadata"]["uid"], &tool).await;
    // What the tool does anyway, on each of its rounds.
    let children = async || {
        let children = model.children().await.unwrap();
        let versions = children
            .iter()
            .map(|(kind, child)| (*kind, child.metadata.uid.clone(), child.metadata.generation));
        versions.collect::<Vec<_>>()
    };
    let (children_before, conditions) = (children().await, conditions_of_ours(&before));
    tool.apply(bed, &manifest).await;
    let after = live(bed, &namespace).await.unwrap();
    for field in ["uid", "generation", "labels", "annotations"] {
        assert_eq!(after["metadata"][field], before["metadata"][field]);
    }
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(conditions_of_ours(&after), conditions);
    assert_eq!(children().await, children_before);

    // A difference is seen, so that none means something.
    let mut changed = manifest.clone();
    changed["metadata"]["annotations"][PATH] = "/elsewhere".into();
    let differs = tool.diff(bed, &changed).await;
    assert!(differs.contains("/elsewhere"), "{differs}");

    changed["metadata"]["annotations"][PATH] = "no path".into();
    tool.apply(bed, &changed).await;
    wait_for_health(bed, &namespace, Health::Degraded).await;
    no_difference_is_left(bed, &tool, &changed).await;

    let mut zero = manifest.clone();
    zero["spec"]["backend"]["replicas"] = 0.into();
    tool.apply(bed, &zero).await;
    wait_for_health(bed, &namespace, Health::Suspended).await;
    no_difference_is_left(bed, &tool, &zero).await;

    // Out of Git is out of the cluster, and the bridge's conditions go with it.
    let mut not_exposed = manifest.clone();
    let annotations = not_exposed["metadata"]["annotations"].as_object_mut();
    annotations.unwrap().remove(EXPOSE).unwrap();
    tool.apply(bed, &not_exposed).await;
    model.wait_until_withdrawn().await.unwrap();
    wait_for_health(bed, &namespace, Health::Healthy).await;
    no_difference_is_left(bed, &tool, &not_exposed).await;
}

fn conditions_of_ours(live: &Value) -> Vec<Value> {
    let all = live["status"]["conditions"].as_array().unwrap();
    let ours = all
        .iter()
        .filter(|c| c["type"] == "Accepted" || c["type"] == "Programmed");
    ours.cloned().collect()
}

#[tokio::test]
async fn argo_cd_sees_no_drift() {
    is_kept("argo-cd", argo_cd).await;
}

#[tokio::test]
async fn argo_cd_sees_no_drift_without_server_side_apply() {
    is_kept("client-side", argo_cd_client_side).await;
}

#[tokio::test]
async fn flux_sees_no_drift() {
    is_kept("flux", flux).await;
}
