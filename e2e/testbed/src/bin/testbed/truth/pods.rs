//! The Model and its pods.

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use testbed::{Error, Model, Result};

use super::annotations::annotated;
use super::case::{Case, ENGINES, GATEWAY, expose};
use super::probe::Question;
use super::{MODEL, NOT_TRUE, Situation, answers, fails};

pub(super) fn situations() -> Vec<Situation> {
    let works = answers("Accepted", "Programmed");
    let no_endpoints = fails("Accepted", "NoReadyEndpoints");
    let other_port = fails("Accepted", "PortNotServed");
    vec![
        Situation::new("pods unready", no_endpoints, unready),
        Situation::from_nothing("one of two pods unready", works, one_of_two_unready),
        Situation::new("scaled to zero", no_endpoints, scaled),
        Situation::new("a pod deleted by hand", works, deleted),
        Situation::new(
            "target-port that nobody serves",
            other_port,
            async |case, model| annotated(case, model, ("target-port", "8001")).await,
        ),
        Situation::new(
            "target-port of Kthena's runtime",
            other_port,
            async |case, model| annotated(case, model, ("target-port", "8100")).await,
        ),
        Situation::new(
            "pod-selector that fits no pod",
            no_endpoints,
            async |case, model| annotated(case, model, ("pod-selector", "app=none")).await,
        ),
        Situation::new(
            "engine that does not say its name",
            fails("Accepted", "ServedNameUnknown"),
            nameless,
        ),
        Situation::new("backend renamed", works, renamed),
        Situation::from_nothing(
            "engine that does not start",
            fails("Accepted", "WaitingForModel"),
            not_starting,
        ),
        Situation::from_nothing("Model failed", fails("Accepted", "ModelFailed"), failed),
        Situation::new(
            "Model failed, and its pods still serve",
            works,
            failed_and_serving,
        ),
        Situation::from_nothing(
            "prefill and decode",
            fails("UnsupportedTopology", NOT_TRUE),
            disaggregated,
        ),
    ]
}

/// A patch of the Model.
pub(super) fn replicas(replicas: u8) -> Value {
    json!({"spec": {"backend": {"replicas": replicas}}})
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    if let Some(place) = object.pointer_mut(pointer) {
        *place = value;
    }
}

fn part(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).cloned().unwrap_or_default()
}

async fn unready(case: &Case<'_>, _: &Model<'_>) -> Result<()> {
    case.broken_by(case.set_healthy(false)).await;
    case.undone_by(case.set_healthy(true)).await;
    Ok(())
}

async fn one_of_two_unready(case: &Case<'_>) -> Result<()> {
    let gateway = case.namespace.gateway(GATEWAY).await?;
    let mut manifest = case.bed.example(MODEL)?;
    set(&mut manifest, "/spec/backend/replicas", 2.into());
    let model = case.namespace.model_from(&manifest).await?;
    case.observe(&model, Question::of(&model, gateway))?;
    expose(&model, &[]).await?;
    case.works().await?;
    let pods = case.wait_for_pods(ENGINES, 2, 2).await?;
    let one_is = async |healthy: bool, ready: usize| {
        for pod in pods.iter().take(1) {
            case.simulate(pod, &json!({"healthy": healthy})).await?;
        }
        case.wait_for_pods(ENGINES, ready, 2).await.map(drop)
    };
    case.broken_by(one_is(false, 1)).await;
    case.undone_by(one_is(true, 2)).await;
    Ok(())
}

async fn scaled(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    case.broken_by(model.patch(&replicas(0))).await;
    case.undone_by(model.patch(&replicas(1))).await;
    Ok(())
}

/// Kthena makes another one.
async fn deleted(case: &Case<'_>, _: &Model<'_>) -> Result<()> {
    let before = case.wait_for_pods(ENGINES, 1, 1).await?;
    case.broken_by(async {
        case.delete_pods(ENGINES).await?;
        case.wait_for("the pod is another one", async || {
            let now = case.wait_for_pods(ENGINES, 1, 1).await;
            let now = now.map_err(|e| e.to_string())?;
            let uid = now.first().map(|pod| &pod.metadata.uid);
            if uid == before.first().map(|pod| &pod.metadata.uid) {
                return Err(format!("still {uid:?}"));
            }
            Ok(())
        })
        .await
    })
    .await;
    Ok(())
}

/// The engine is started without the flags that name what it serves.
async fn nameless(case: &Case<'_>, _: &Model<'_>) -> Result<()> {
    let name = format!("{MODEL}-backend1");
    let failed = |e: kube::Error| Error::Other(format!("ModelServing {name}: {e}"));
    let gvk = GroupVersionKind::gvk("workload.serving.volcano.sh", "v1alpha1", "ModelServing");
    let servings: Api<DynamicObject> = Api::namespaced_with(
        case.client()?,
        case.namespace.name(),
        &ApiResource::from_gvk(&gvk),
    );
    let before = part(&servings.get(&name).await.map_err(failed)?.data, "/spec");
    let mut nameless = before.clone();
    let containers = nameless.pointer_mut("/template/roles/0/entryTemplate/spec/containers");
    let containers = containers
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for engine in containers.filter(|container| container["name"] == "engine") {
        engine["command"] = json!(["python3", "-m", "vllm.entrypoints.openai.api_server"]);
    }
    let set = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        let patched = servings.patch(&name, &PatchParams::default(), &patch).await;
        patched.map_err(failed).map(drop)
    };
    case.broken_by(set(nameless)).await;
    case.undone_by(set(before)).await;
    Ok(())
}

async fn renamed(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    let to = async |name: &str| {
        model
            .patch(&json!({"spec": {"backend": {"name": name}}}))
            .await?;
        let labels = format!("{ENGINES},modelserving.volcano.sh/name={MODEL}-{name}");
        case.wait_for_pods(&labels, 1, 1).await.map(drop)
    };
    case.broken_by(to("another")).await;
    case.undone_by(to("backend1")).await;
    Ok(())
}

async fn not_starting(case: &Case<'_>) -> Result<()> {
    let mut manifest = case.bed.example(MODEL)?;
    let right = part(&manifest, "/spec/backend/workers");
    // The bed's kubelet stands in for any image of vLLM, and for no other.
    let image = "example.com/no-such-image:1";
    set(&mut manifest, "/spec/backend/workers/0/image", image.into());
    never_worked(case, &manifest, right).await
}

/// Kthena has no engine to start without a worker of the type `server`.
async fn failed(case: &Case<'_>) -> Result<()> {
    let mut manifest = case.bed.example(MODEL)?;
    let right = part(&manifest, "/spec/backend/workers");
    set(
        &mut manifest,
        "/spec/backend/workers/0/type",
        "controller".into(),
    );
    never_worked(case, &manifest, right).await
}

/// A Model that is exposed and does not come to work before its workers are others.
async fn never_worked(case: &Case<'_>, manifest: &Value, workers: Value) -> Result<()> {
    let gateway = case.namespace.gateway(GATEWAY).await?;
    let model = case.namespace.model_from(manifest).await?;
    case.observe(&model, Question::of(&model, gateway))?;
    case.broken_by(expose(&model, &[])).await;
    let mended = json!({"spec": {"backend": {"workers": workers}}});
    case.undone_by(model.patch(&mended)).await;
    Ok(())
}

async fn failed_and_serving(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    let right = part(&case.bed.example(MODEL)?, "/spec/backend/workers");
    let mut wrong = right.clone();
    set(&mut wrong, "/0/type", "controller".into());
    let workers = |workers: Value| json!({"spec": {"backend": {"workers": workers}}});
    let (wrong, right) = (workers(wrong), workers(right));
    case.broken_by(async {
        model.patch(&wrong).await?;
        model.wait_for_condition("Failed", "True").await.map(drop)
    })
    .await;
    case.undone_by(model.patch(&right)).await;
    Ok(())
}

async fn disaggregated(case: &Case<'_>) -> Result<()> {
    let mut manifest = case.bed.example(MODEL)?;
    let worker = part(&manifest, "/spec/backend/workers/0");
    let workers = ["prefill", "decode"].map(|role| {
        let mut worker = worker.clone();
        set(&mut worker, "/type", role.into());
        worker
    });
    set(
        &mut manifest,
        "/spec/backend/type",
        "vLLMDisaggregated".into(),
    );
    set(&mut manifest, "/spec/backend/workers", json!(workers));
    let gateway = case.namespace.gateway(GATEWAY).await?;
    let model = case.namespace.model_from(&manifest).await?;
    case.observe(&model, Question::of(&model, gateway))?;
    model.wait_for_condition("Active", "True").await?;
    case.broken_by(expose(&model, &[])).await;
    let decoders = "modelserving.volcano.sh/name=demo-backend1,modelserving.volcano.sh/role=decode";
    case.undone_by(model.annotate(&[("pod-selector", Some(decoders))]))
        .await;
    Ok(())
}
