//! Kthena's kinds: the fields that are read, in every form since v0.1.0.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Label on every pod of a ModelServing: its name.
pub const LABEL_SERVING: &str = "modelserving.volcano.sh/name";
/// Label on the pods of a ModelServing that serve HTTP: `"true"`.
pub const LABEL_ENTRY: &str = "modelserving.volcano.sh/entry";
/// Label on every pod of a ModelServing: the name of its role.
pub const LABEL_ROLE: &str = "modelserving.volcano.sh/role";
/// Label on every pod that belongs to a ModelBooster: its name.
pub const LABEL_MODEL_NAME: &str = "workload.serving.volcano.sh/model-name";

/// Spec of a ModelBooster, which the guide calls a Model.
///
/// v0.1.0 has `backends`, later versions `backend`. Everything is optional here: what is missing shows
/// when it is needed, in a condition, and never as an object that cannot be read.
/// <https://github.com/volcano-sh/kthena/blob/v1.0.0/pkg/apis/workload/v1alpha1/model_booster_types.go>
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "workload.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelBooster",
    namespaced,
    status = "ModelBoosterStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
pub struct ModelBoosterSpec {
    /// The only backend (since v0.2.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<ModelBackend>,
    /// The backends (v0.1.0).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<ModelBackend>,
}

impl ModelBoosterSpec {
    /// The backends, whichever form they have.
    pub fn backends(&self) -> impl Iterator<Item = &ModelBackend> {
        self.backend.iter().chain(&self.backends)
    }
}

/// A backend of a ModelBooster: one engine with its weights.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelBackend {
    /// Its name; the ModelServing and the ModelServer are called `<model>-<backend>`.
    pub name: String,
    /// `vLLM`, `vLLMDisaggregated`, or one of the engines that v0.1.0 had.
    pub r#type: String,
    /// Where the weights come from.
    #[serde(rename = "modelURI")]
    pub model_uri: String,
    /// Where the weights are kept.
    #[serde(rename = "cacheURI")]
    pub cache_uri: String,
    /// How many ModelServing groups (since v1.0.0).
    pub replicas: Option<i32>,
    /// The least number of ModelServing groups (before v1.0.0).
    pub min_replicas: Option<i32>,
    /// The roles of a group.
    pub workers: Vec<ModelWorker>,
}

/// A worker of a backend.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct ModelWorker {
    /// `server`, `prefill`, `decode`, `controller` or `coordinator`.
    pub r#type: String,
    /// The engine's flags, free in form.
    pub config: Option<serde_json::Value>,
}

/// Status of a ModelBooster. Kthena writes `Initialized`, `Active` and `Failed`; we write ours.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct ModelBoosterStatus {
    /// The conditions of all writers.
    pub conditions: Vec<Condition>,
}

/// Spec of a ModelServing: the pods that run a backend.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "workload.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelServing",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
pub struct ModelServingSpec {
    /// What one group of pods is made from.
    #[serde(default)]
    pub template: ServingGroup,
}

/// A group of pods that serve together.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct ServingGroup {
    /// Its roles.
    pub roles: Vec<Role>,
}

/// A role in a group.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Role {
    /// Its name: `leader` for vLLM, `prefill` and `decode` when disaggregated.
    pub name: String,
    /// The pod that serves HTTP.
    pub entry_template: PodTemplate,
}

/// A pod template.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct PodTemplate {
    /// Its spec.
    pub spec: PodTemplateSpec,
}

/// The spec in a pod template.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct PodTemplateSpec {
    /// Its containers.
    pub containers: Vec<Container>,
}

/// A container in a pod template.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct Container {
    /// Its name: Kthena calls the engine's `engine`.
    pub name: String,
    /// The entry point.
    pub command: Vec<String>,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Spec of a ModelServer: which pods kthena-router sends requests to, and on which port.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "networking.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelServer",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ModelServerSpec {
    /// The name under which the engine serves the model; none: requests pass as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `vLLM` or `SGLang`.
    #[serde(default)]
    pub inference_engine: String,
    /// The port that the engine serves on.
    #[serde(default)]
    pub workload_port: WorkloadPort,
    /// The pods.
    #[serde(default)]
    pub workload_selector: WorkloadSelector,
}

/// The port that the engine serves on.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct WorkloadPort {
    /// Its number; 0 when it is not given.
    pub port: i32,
    /// `http` or `https`; the first when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// The pods of a ModelServer.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// Labels that the pods have.
    pub match_labels: BTreeMap<String, String>,
    /// Which of them prefill and which decode, where those are not the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pd_group: Option<PdGroup>,
}

/// Which pods prefill and which decode.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PdGroup {
    /// The label by which pods that work together are known.
    pub group_key: String,
}

/// Spec of a ModelRoute: what kthena-router does with requests for a model.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "networking.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelRoute",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelRouteSpec {
    /// The name that clients send as the model.
    pub model_name: String,
    /// Names of adapters that clients may send.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lora_adapters: Vec<String>,
    /// Which requests go to which ModelServers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<ModelRouteRule>,
    /// How many tokens may pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// A rule of a ModelRoute.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelRouteRule {
    /// The ModelServers.
    pub target_models: Vec<TargetModel>,
}

/// A ModelServer that requests go to.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetModel {
    /// Its name.
    pub model_server_name: String,
}

/// How many tokens may pass. What it says is not looked at.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct RateLimit {
    /// The time that it speaks of.
    pub unit: String,
}

impl ModelRouteSpec {
    /// The names of the ModelServers that requests go to, in the order of the rules.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        let targets = self.rules.iter().flat_map(|rule| &rule.target_models);
        targets.map(|target| target.model_server_name.as_str())
    }
}
