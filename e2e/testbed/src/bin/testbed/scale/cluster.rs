//! A cluster with many Models that Kthena has made active, as they would be before the operator comes.
//!
//! Kthena makes one, by its own controllers, and what it wrote is copied: its controllers would take longer than
//! all that is measured, and they would be measured too.

use std::path::Path;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kthena_bridge_api::DOMAIN;
use kube::api::{
    ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use testbed::{
    Error, Namespace, OPERATOR, OPERATOR_NAMESPACE, Options, Result, TestBed, config, documents,
    kustomize,
};

use super::By;
use super::stamp::Stamp;

/// The Gateway of every namespace.
pub(crate) const GATEWAY: &str = "inference-gateway";
/// The Model that Kthena makes. Nothing else is called so.
const FIRST: &str = "first-of-many";
/// How many Models are made at a time.
const TOGETHER: usize = 16;
const LIMIT: Duration = Duration::from_mins(1);

/// A Model that was made.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Model {
    /// Namespace and name.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What Kthena wrote for one Model.
pub(crate) struct Recorded {
    namespace: String,
    model_uid: String,
    serving_uid: String,
    model: Stamp,
    model_status: Value,
    serving: Stamp,
    server: Stamp,
    pod: Stamp,
    pod_status: Value,
}

/// Starts what is needed.
pub(crate) fn start(deployment_controller: bool) -> Result<TestBed> {
    let without_controllers = if deployment_controller {
        Vec::new()
    } else {
        vec!["deployment-controller".to_owned()]
    };
    TestBed::start(Options {
        objects_only: true,
        without_controllers,
        // Ten thousand Models are about 150,000 objects, each in several versions.
        etcd_quota: Some(16 << 30),
        ..Options::default()
    })
}

/// Installs all of the operator but the Deployment, and gives its configuration and a kubeconfig with its rights.
pub(crate) async fn install(bed: &TestBed, dir: &Path) -> Result<()> {
    let manifests = kustomize(bed.parts(), &config()).await?;
    for object in documents(&manifests)? {
        if object["kind"] != "Deployment" {
            bed.apply("", &object.to_string()).await?;
        }
    }
    let failed = |what: &str, e: &dyn std::fmt::Display| Error::Other(format!("{what}: {e}"));
    let accounts: Api<ServiceAccount> = Api::namespaced(bed.client()?, OPERATOR_NAMESPACE);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec!["https://kubernetes.default.svc".to_owned()],
            expiration_seconds: Some(24 * 3600),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let params = PostParams::default();
    let token = accounts
        .create_token_request(OPERATOR, &params, &request)
        .await
        .map_err(|e| failed("asking for a token", &e))?
        .status;
    let text = std::fs::read_to_string(bed.kubeconfig()).map_err(|e| failed("kubeconfig", &e))?;
    let mut kubeconfig: Value =
        serde_yaml::from_str(&text).map_err(|e| failed("kubeconfig", &e))?;
    kubeconfig["users"][0]["user"] = json!({"token": token.map(|status| status.token)});
    kubeconfig["contexts"][0]["context"]["namespace"] = OPERATOR_NAMESPACE.into();
    let write =
        |file: &str, text: &str| std::fs::write(dir.join(file), text).map_err(|e| failed(file, &e));
    std::fs::create_dir_all(dir).map_err(|e| failed("making a folder", &e))?;
    write("kubeconfig", &kubeconfig.to_string())?;
    write("config.yaml", &bed.operator_configuration().await?)
}

/// Has Kthena make a Model active, keeps what it wrote, and removes it.
pub(crate) async fn record(bed: &TestBed) -> Result<Recorded> {
    let namespace = bed.namespace("recorded").await?;
    let model = namespace.model(FIRST).await?;
    let client = bed.client()?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.name());
    let failed = |e: kube::Error| Error::Other(format!("the Model that Kthena makes: {e}"));
    let what = "Kthena has made a pod for its Model";
    let pod = bed.wait_for(what, LIMIT, async || {
        let found = pods.list(&ListParams::default()).await;
        let found = found.map_err(|e| e.to_string())?.items;
        found.into_iter().next().ok_or_else(|| "none".to_owned())
    });
    let pod = pod.await?;
    let ready = json!({"status": ready_pod(&pod)});
    pods.patch_status(
        &pod.name_any(),
        &PatchParams::default(),
        &Patch::Merge(ready),
    )
    .await
    .map_err(failed)?;
    model.wait_for_condition("Active", "True").await?;
    bed.stop_kthena().await?;

    let one = async |kind: &str, group: &str, name: &str| {
        api(&client, namespace.name(), group, kind)
            .get(name)
            .await
            .map_err(failed)
            .and_then(to_value)
    };
    let booster = one("ModelBooster", "workload.serving.volcano.sh", FIRST).await?;
    let backend = format!("{FIRST}-backend1");
    let serving = one("ModelServing", "workload.serving.volcano.sh", &backend).await?;
    let server = one("ModelServer", "networking.serving.volcano.sh", &backend).await?;
    let pod = api_core(&client, namespace.name())
        .get(&pod.name_any())
        .await
        .map_err(failed)
        .and_then(to_value)?;
    let uid = |object: &Value| {
        object["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let recorded = Recorded {
        namespace: namespace.name().to_owned(),
        model_uid: uid(&booster),
        serving_uid: uid(&serving),
        model_status: booster["status"].clone(),
        pod_status: pod["status"].clone(),
        model: Stamp::of(booster),
        serving: Stamp::of(serving),
        server: Stamp::of(server),
        pod: Stamp::of(pod),
    };
    model.delete().await?;
    let what = "the Model that Kthena made is gone";
    let gone = bed.wait_for(what, LIMIT, async || {
        let left = pods.list(&ListParams::default()).await;
        let left = left.map_err(|e| e.to_string())?.items.len();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} pods"))
        }
    });
    gone.await?;
    Ok(recorded)
}

/// The status of a pod whose containers all run.
fn ready_pod(pod: &Pod) -> Value {
    let now = Timestamp::now().to_string();
    let condition =
        |type_: &str| json!({"type": type_, "status": "True", "lastTransitionTime": now});
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers = containers.map(|container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "", "restartCount": 0,
            "ready": true, "started": true, "state": {"running": {"startedAt": now}},
        })
    });
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    json!({
        "phase": "Running",
        "conditions": conditions,
        "containerStatuses": containers.collect::<Vec<_>>(),
        "podIP": "10.99.1.1",
        "podIPs": [{"ip": "10.99.1.1"}],
        "startTime": now,
    })
}

/// Makes namespaces, each with a Gateway that is programmed.
pub(crate) async fn namespaces<'a>(
    bed: &'a TestBed,
    prefix: &str,
    count: usize,
) -> Result<Vec<Namespace<'a>>> {
    let namespaces: Vec<Namespace<'a>> = stream::iter(0..count)
        .map(|_| bed.namespace(prefix))
        .buffered(8)
        .try_collect()
        .await?;
    let client = bed.client()?;
    let now = Timestamp::now().to_string();
    let conditions = ["Accepted", "Programmed"].map(|type_| {
        json!({"type": type_, "status": "True", "reason": type_, "message": "", "observedGeneration": 1,
            "lastTransitionTime": now})
    });
    let status = json!({"status": {
        "addresses": [{"type": "IPAddress", "value": "10.99.0.2"}],
        "conditions": conditions,
        "listeners": [{"name": "http", "attachedRoutes": 0, "supportedKinds": [], "conditions": conditions}],
    }});
    for namespace in &namespaces {
        namespace
            .apply(&format!(
                "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: {GATEWAY}}}, \
                 spec: {{gatewayClassName: istio, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}}}"
            ))
            .await?;
        let gateways = api(
            &client,
            namespace.name(),
            "gateway.networking.k8s.io",
            "Gateway",
        );
        gateways
            .patch_status(GATEWAY, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .map_err(|e| Error::Other(format!("the Gateway of {}: {e}", namespace.name())))?;
    }
    Ok(namespaces)
}

/// Makes Models over these namespaces, active, and each with a ready pod.
pub(crate) async fn models(
    client: &Client,
    recorded: &Recorded,
    namespaces: &[Namespace<'_>],
    prefix: &str,
    count: usize,
    exposed: (bool, By),
) -> Result<Vec<Model>> {
    let places = (0..count).zip(namespaces.iter().cycle());
    stream::iter(places)
        .map(|(n, namespace)| {
            let name = format!("{prefix}-{n:05}");
            recorded.copy(client, namespace.name().to_owned(), name, exposed)
        })
        .buffer_unordered(TOGETHER)
        .try_collect()
        .await
}

impl Recorded {
    /// Makes a Model alone, that names a Gateway and a path of its own.
    pub(crate) async fn make(
        &self,
        client: &Client,
        namespace: &str,
        name: &str,
        (exposed, by): (bool, By),
    ) -> Result<Model> {
        let names = [(FIRST, name), (self.namespace.as_str(), namespace)];
        let mut model = self.model.value(&names)?;
        if by == By::Annotations {
            let annotations = &mut model["metadata"]["annotations"];
            annotations[format!("{DOMAIN}/gateway")] = GATEWAY.into();
            annotations[format!("{DOMAIN}/path")] = format!("/{name}").into();
            if exposed {
                annotations[format!("{DOMAIN}/expose")] = "true".into();
            }
        }
        let uid = create(&api_of(client, namespace, &model)?, &model).await?;
        Ok(Model {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid,
        })
    }

    /// Makes a Model with all that Kthena makes of it.
    async fn copy(
        &self,
        client: &Client,
        namespace: String,
        name: String,
        exposed: (bool, By),
    ) -> Result<Model> {
        let model = self.make(client, &namespace, &name, exposed).await?;
        let names = [
            (FIRST, name.as_str()),
            (self.namespace.as_str(), namespace.as_str()),
            (self.model_uid.as_str(), model.uid.as_str()),
        ];
        let serving = self.serving.value(&names)?;
        let serving = create(&api_of(client, &namespace, &serving)?, &serving).await?;
        let names = [&names[..], &[(self.serving_uid.as_str(), serving.as_str())]].concat();
        let server = self.server.value(&names)?;
        create(&api_of(client, &namespace, &server)?, &server).await?;
        let pod = self.pod.value(&names)?;
        let pods = api_core(client, &namespace);
        create(&pods, &pod).await?;
        let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
        set_status(&pods, pod, &self.pod_status).await?;
        let models = api(
            client,
            &namespace,
            "workload.serving.volcano.sh",
            "ModelBooster",
        );
        set_status(&models, &name, &self.model_status).await?;
        if exposed == (true, By::Objects) {
            exposure(client, &namespace, &name).await?;
        }
        Ok(model)
    }
}

/// Makes the ModelExposure of a Model.
pub(crate) async fn exposure(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let object = json!({
        "apiVersion": "kthena-bridge.io/v1alpha1",
        "kind": "ModelExposure",
        "metadata": {"name": name},
        "spec": {
            "targetRef": {"kind": "ModelBooster", "name": name},
            "gateways": [{"name": GATEWAY}],
            "path": format!("/{name}"),
        },
    });
    create(&api_of(client, namespace, &object)?, &object)
        .await
        .map(drop)
}

async fn set_status(api: &Api<DynamicObject>, name: &str, status: &Value) -> Result<()> {
    let status = Patch::Merge(json!({"status": status}));
    let params = PatchParams::default();
    let patched = api.patch_status(name, &params, &status).await.map(drop);
    patched.map_err(|e| Error::Other(format!("writing the status of {name}: {e}")))
}

async fn create(api: &Api<DynamicObject>, object: &Value) -> Result<String> {
    let failed = |e: &dyn std::fmt::Display| Error::Other(format!("creating {object}: {e}"));
    let typed: DynamicObject = serde_json::from_value(object.clone()).map_err(|e| failed(&e))?;
    let created = api.create(&PostParams::default(), &typed).await;
    Ok(created.map_err(|e| failed(&e))?.uid().unwrap_or_default())
}

/// The client of a kind of Kthena or of Gateway API.
pub(crate) fn api(client: &Client, namespace: &str, group: &str, kind: &str) -> Api<DynamicObject> {
    let version = if group.ends_with("volcano.sh") || group == DOMAIN {
        "v1alpha1"
    } else {
        "v1"
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// The client of pods.
fn api_core(client: &Client, namespace: &str) -> Api<DynamicObject> {
    api(client, namespace, "", "Pod")
}

fn api_of(client: &Client, namespace: &str, object: &Value) -> Result<Api<DynamicObject>> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let (group, _) = text("apiVersion")
        .split_once('/')
        .ok_or_else(|| Error::Other(format!("no group: {object}")))?;
    Ok(api(client, namespace, group, text("kind")))
}

fn to_value(object: DynamicObject) -> Result<Value> {
    serde_json::to_value(object).map_err(|e| Error::Other(format!("an object: {e}")))
}
