//! What the plan asks for, against the real API server: every object is admitted with strict validation,
//! and what the API server then records as ours is exactly what was asked for. If it were not, an
//! operator that starts would find a difference in objects that are as they should be, and write.

use std::sync::Arc;
use std::time::Duration;

use kthena_bridge_api::FIELD_MANAGER;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::observe::Objects;
use kthena_bridge_core::plan::{self, Desired};
use kthena_bridge_core::provider::Provider;
use kthena_bridge_core::{Config, Exposure, Owner, OwnerKind, Target, Topology, ownership};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::Request;
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use testbed::TestBed;

/// A Model that exists, so that the garbage collector leaves what it owns.
async fn model(bed: &TestBed, namespace: &str) -> ModelBooster {
    let manifest = json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelBooster",
        "metadata": {"name": "planned"},
        "spec": {"backend": {"name": "b", "type": "vLLM", "modelURI": "hf://a/b", "cacheURI": "hostpath://tmp/c",
            "replicas": 0, "workers": [{"type": "server", "image": "vllm:1", "replicas": 1, "pods": 1,
            "config": {"served-model-name": "served"}}]}},
    });
    bed.apply(namespace, &manifest.to_string()).await.unwrap();
    let models: Api<ModelBooster> = Api::namespaced(bed.client().unwrap(), namespace);
    models.get("planned").await.unwrap()
}

fn planned(model: &ModelBooster, provider: &str, annotations: &[(&str, &str)]) -> Vec<Desired> {
    let annotations = [("expose", "true"), ("gateway", "nowhere")]
        .iter()
        .chain(annotations)
        .map(|(k, v)| (format!("kthena-bridge.io/{k}"), (*v).to_owned()))
        .collect();
    let namespace = model.metadata.namespace.as_deref().unwrap();
    let config = Config::default();
    let exposure = Exposure::parse(namespace, "planned", &annotations, &config)
        .unwrap()
        .unwrap();
    let cluster = Objects::default();
    let provider = Provider::named(provider).unwrap();
    let owner = Owner::of(OwnerKind::ModelBooster, &model.metadata);
    let target = Target::Booster(Arc::new(model.clone()));
    let topology = Topology::offline(&exposure, &owner, &target, &cluster, provider).unwrap();
    plan::build(&exposure, &topology, &config, &cluster).objects
}

fn api(client: &Client, namespace: &str, kind: ChildKind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind.api_resource())
}

async fn create(client: &Client, namespace: &str, desired: &Desired) -> Value {
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let path = DynamicObject::url_path(&desired.kind.api_resource(), Some(namespace));
    let body = serde_json::to_vec(&desired.object).unwrap();
    let mut request = Request::new(path).create(&params, body).unwrap();
    *request.uri_mut() = format!("{}&fieldValidation=Strict", request.uri())
        .parse()
        .unwrap();
    let refused =
        |error: &kube::Error| eprintln!("{} {} is refused: {error}", desired.kind, desired.name);
    client.request(request).await.inspect_err(refused).unwrap()
}

async fn all_are_admitted(provider: &str, annotations: &[(&str, &str)]) {
    let bed = TestBed::shared().unwrap();
    let namespace = bed.namespace("planned").await.unwrap();
    let client = bed.client().unwrap();
    let restricted = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name(),
        "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespace.apply(&restricted.to_string()).await.unwrap();
    let model = model(bed, namespace.name()).await;

    for desired in planned(&model, provider, annotations) {
        let created = create(&client, namespace.name(), &desired).await;
        assert_eq!(
            ownership::live(desired.kind, &created),
            desired.digest,
            "{} {} is not recorded as it was asked for: {:#}\nasked for: {:#}",
            desired.kind,
            desired.name,
            created,
            desired.object
        );
        if desired.kind == ChildKind::Deployment {
            // Pod Security is enforced on pods only.
            let mut pod = desired.object["spec"]["template"].clone();
            pod["apiVersion"] = "v1".into();
            pod["kind"] = "Pod".into();
            pod["metadata"]["name"] = "picker".into();
            let pod = serde_json::from_value(pod).unwrap();
            let params = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let pods: Api<k8s_openapi::api::core::v1::Pod> =
                Api::namespaced(client.clone(), namespace.name());
            pods.create(&params, &pod).await.unwrap();
        }
    }
}

#[tokio::test]
async fn everything_for_istio_is_admitted_and_recorded_as_asked() {
    all_are_admitted("istio", &[("priority", "-1")]).await;
}

#[tokio::test]
async fn everything_for_kthenas_router_is_admitted_and_recorded_as_asked() {
    all_are_admitted("kthena-router", &[("path", "/m")]).await;
}

#[tokio::test]
async fn every_optional_field_is_admitted_and_recorded_as_asked() {
    all_are_admitted(
        "generic",
        &[
            ("hostnames", "a.example.com,*.example.org"),
            ("path", "/models/planned"),
            ("model-names", "one,two"),
            ("request-timeout", "1m"),
            ("failure-mode", "FailClose"),
            ("endpoint-picker", "mine:1234"),
            ("target-port", "1"),
            ("pod-selector", "a=b,c.d/e="),
        ],
    )
    .await;
}

/// Records what a create set as applied, in the version that was looked at. The Gateway's controller writes the
/// status meanwhile, so that it may take more than one look.
async fn mark_as_applied(bed: &TestBed, api: &Api<DynamicObject>, name: &str) {
    let what = format!("{name} is recorded as applied");
    let marked = bed.wait_for(what, Duration::from_secs(10), async || {
        let created = api.get(name).await.map_err(|e| e.to_string())?;
        let created = serde_json::to_value(created).unwrap();
        let entry = ownership::created_entry(&created).unwrap();
        let path = format!("/metadata/managedFields/{entry}/operation");
        let as_applied: json_patch::Patch = serde_json::from_value(json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": created["metadata"]["resourceVersion"]},
            {"op": "replace", "path": path, "value": "Apply"},
        ]))
        .unwrap();
        let as_applied = Patch::<()>::Json(as_applied);
        let patched = api.patch(name, &PatchParams::default(), &as_applied).await;
        patched.map_err(|e| e.to_string())
    });
    marked.await.unwrap();
}

/// What an annotation set is gone when the annotation is, although the object was made by a create.
#[tokio::test]
async fn a_field_that_is_no_longer_wanted_goes() {
    let bed = TestBed::shared().unwrap();
    let namespace = bed.namespace("planned").await.unwrap();
    let client = bed.client().unwrap();
    let model = model(bed, namespace.name()).await;
    let route = |annotations: &[(&str, &str)]| {
        let objects = planned(&model, "istio", annotations);
        objects
            .into_iter()
            .find(|o| o.kind == ChildKind::HTTPRoute)
            .unwrap()
    };
    let api = api(&client, namespace.name(), ChildKind::HTTPRoute);
    let params = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply(FIELD_MANAGER).force()
    };

    let with_host = route(&[("hostnames", "a.example.com")]);
    create(&client, namespace.name(), &with_host).await;
    let without = route(&[]);
    mark_as_applied(bed, &api, &without.name).await;
    let applied = api
        .patch(&without.name, &params, &Patch::Apply(&without.object))
        .await
        .unwrap();
    let applied = serde_json::to_value(applied).unwrap();
    assert_eq!(
        ownership::live(without.kind, &applied),
        without.digest,
        "{applied:#}"
    );
    assert_eq!(applied["spec"].get("hostnames"), None);
    assert_eq!(ownership::created_entry(&applied), None);
}
