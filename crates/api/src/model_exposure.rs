//! ModelExposure: what annotations say of a Model, as an object of its own with a schema and a status.
//!
//! The fields are plain, so that whatever a newer schema allows can be read; what a value means, and whether it is
//! allowed, is decided where annotations are read, too. The rules in the schema say the same in the same words, so that
//! the API server refuses what the operator would.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Message, Rule};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::plugins_config::PluginsConfig;
use crate::text::{
    Duration, Hostname, LabelKey, LabelValue, ModelName, NamespaceName, ObjectName, ServiceName,
    path,
};

/// How long a whole request may take where nobody says.
pub const REQUEST_TIMEOUT: &str = "300s";
/// The port on which endpoint pickers speak ext_proc.
pub const ENDPOINT_PICKER_PORT: u16 = 9002;

/// Exposes a Model: what serves it, a ModelBooster or a ModelServer, through Gateways with the inference extension.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "kthena-bridge.io",
    version = "v1alpha1",
    kind = "ModelExposure",
    doc = "Exposes a Model, which is a ModelBooster or a ModelServer of its namespace, through Gateways with the inference extension.",
    namespaced,
    shortname = "mexp",
    category = "kthena",
    status = "ModelExposureStatus",
    derive = "PartialEq",
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".spec.targetRef.name",
        description = "The Model that is exposed."
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".status.urls[0]",
        description = "The base URL of its API."
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.endpoints.ready",
        description = "How many of its pods are ready."
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status",
        description = "Whether a request sent now reaches a ready pod."
    ),
    printcolumn(
        name = "Gateway",
        type_ = "string",
        json_path = ".spec.gateways[*].name",
        description = "The Gateways that are asked for.",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready, or is not.",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ModelExposureSpec {
    /// The Model that is exposed, in the same namespace. It cannot be changed.
    #[x_kube(validation = rule("self == oldSelf", "cannot be changed; delete this ModelExposure and make another"))]
    pub target_ref: TargetReference,
    /// The Gateways that it is attached to, or listeners of them; none: the operator's `defaultGateway`, else the
    /// only Gateway of the namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub gateways: Vec<GatewayReference>,
    /// The hosts that it is served under, such as models.example.com or *.example.com; none: the operator's
    /// `hostnameTemplate`, else every host of the listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(
        validation = each("host", Hostname::PATTERN, Hostname::FORM),
        validation = no_addresses()
    )]
    pub hostnames: Vec<String>,
    /// The path prefix that it is served under, which is cut off before the engine sees the request; none: the
    /// operator's `pathTemplate`, else `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(
        validation = rule("self.startsWith('/')", path::NO_BEGINNING),
        validation = path_characters(),
        validation = path_escapes(),
        validation = path_parts(),
        validation = rule("!self.endsWith('/.') && !self.endsWith('/..')", path::NO_END)
    )]
    pub path: Option<String>,
    /// Whether the header X-Gateway-Model-Name is matched, too. Something on the Gateway has to set it from the body,
    /// and the operator's `modelHeader` has to say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub match_model: bool,
    /// The names that clients may send as the model; those that the engine does not serve are rewritten. None: the
    /// target's name and the name that the engine serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(validation = each("model", ModelName::PATTERN, ModelName::FORM))]
    pub model_names: Vec<String>,
    /// Priorities that requests may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub objectives: Vec<Objective>,
    /// How long a whole request may take, such as 30s or 1m30s; 0s is without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("default" = REQUEST_TIMEOUT))]
    #[x_kube(validation = text(Duration::PATTERN, Duration::FORM))]
    pub request_timeout: Option<String>,
    /// What the Gateway does without its endpoint picker: FailOpen, choose a pod itself, or FailClose, refuse the
    /// request. The operator's `failureMode` where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["FailOpen", "FailClose"]))]
    pub failure_mode: Option<String>,
    /// Who picks endpoints: one that is run for this Model, which is the default, or one that somebody else runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_picker: Option<EndpointPickerSpec>,
    /// The port that the engine serves on; the ModelServer's where it is not given, else 8000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<i32>,
    /// The pods that get requests; those of the target that serve HTTP where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<PodSelector>,
    /// Leaves every object as it is. The status is still kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// What is exposed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub struct TargetReference {
    /// `ModelBooster` or `ModelServer`.
    #[schemars(extend("enum" = ["ModelBooster", "ModelServer"]))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A Gateway, or one listener of it.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayReference {
    /// The Gateway's namespace; the ModelExposure's own where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = text(NamespaceName::PATTERN, NamespaceName::FORM))]
    pub namespace: Option<String>,
    /// The Gateway's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = text(ObjectName::PATTERN, ObjectName::FORM))]
    pub name: String,
    /// The listener; all of the Gateway's where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = text(ObjectName::PATTERN, ObjectName::FORM))]
    pub section_name: Option<String>,
}

/// A priority that requests may ask for. Where the pods are saturated, negative ones are refused first.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Objective {
    /// Its name: that of an InferenceObjective, and what requests ask for in the header
    /// x-gateway-inference-objective.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = text(ObjectName::PATTERN, ObjectName::FORM))]
    pub name: String,
    /// The priority; the higher one goes first.
    pub priority: i32,
}

/// Who picks endpoints.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[x_kube(validation = rule("!(has(self.managed) && has(self.service))", TWO_PICKERS))]
pub struct EndpointPickerSpec {
    /// One that is run for this Model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedEndpointPicker>,
    /// One that somebody else runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceReference>,
}

/// An endpoint picker that is run for a Model. What is not given is as in the operator's `endpointPicker`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ManagedEndpointPicker {
    /// How many pods. One of them answers, the others wait to follow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    pub replicas: Option<i32>,
    /// Its compute resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// An EndpointPickerConfig without its version and kind. A field that is given replaces the operator's.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(with = "PluginsConfig")]
    pub plugins_config: Map<String, Value>,
}

/// Compute resources.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub struct ResourceRequirements {
    /// What a node has to have left, by resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "amounts")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What it may use at most, by resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "amounts")]
    pub limits: BTreeMap<String, IntOrString>,
}

/// The Service of an endpoint picker.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct ServiceReference {
    /// Its name, in the same namespace.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = text(ServiceName::PATTERN, ServiceName::FORM))]
    pub name: String,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535), extend("default" = ENDPOINT_PICKER_PORT))]
    pub port: Option<i32>,
}

/// Pods by their labels.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodSelector {
    /// Labels that all have to be there.
    #[schemars(schema_with = "labels")]
    #[x_kube(validation = label_keys(), validation = label_values())]
    pub match_labels: BTreeMap<String, String>,
}

/// What the operator says of a ModelExposure.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelExposureStatus {
    /// The generation that the rest is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the request is valid, allowed and ours to serve. `Programmed`: a request sent to the Gateway now
    /// reaches a ready pod. `Ready`: both. `Reachable`, where the operator sends requests: one was answered.
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Where the Model answers: the base URLs of its API, as clients are configured with them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub urls: Vec<String>,
    /// The pods that get requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<EndpointsStatus>,
    /// The objects that were made for it, in its namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub objects: Vec<ObjectStatus>,
}

/// How many pods get requests.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(default)]
pub struct EndpointsStatus {
    /// Those that are ready.
    pub ready: i32,
    /// All that are selected.
    pub total: i32,
}

/// An object that was made.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(default)]
pub struct ObjectStatus {
    /// Its API group, empty for the core one.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Labels: their keys and values.
fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

/// Amounts of resources: a whole number, or one with a unit.
fn amounts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"x-kubernetes-int-or-string": true},
    })
}

/// Kubernetes' conditions, of which a writer has those whose type it writes.
/// <https://github.com/kubernetes/apimachinery/blob/v0.36.0/pkg/apis/meta/v1/types.go>
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "A condition.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 316,
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    "description": "What is spoken of.",
                },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "Whether it holds.",
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "Why, in one word.",
                },
                "message": {
                    "type": "string", "maxLength": 32768,
                    "description": "Why, for a person: it names objects and what to do.",
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation that it is about.",
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time",
                    "description": "Since when it has this status.",
                },
            },
        },
    })
}

/// What is said of an endpoint picker that is two.
pub const TWO_PICKERS: &str = "names both managed and service; keep one";

// Rules in CEL. A message is what the operator says of the value, without the value where the API server puts that
// before it. https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules

fn rule(holds: impl Into<String>, message: &str) -> Rule {
    Rule::new(holds).message(message)
}

/// A rule of which the message names a part of the value.
fn naming(holds: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(holds).message(Message::Expression(message.into()))
}

/// A text as a string in CEL.
fn cel(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A text has a form.
fn text(pattern: &str, form: &str) -> Rule {
    let matches = format!("self.matches({})", cel(pattern));
    rule(matches, &format!("is not {form}"))
}

/// Each of a list of texts has a form.
fn each(what: &str, pattern: &str, form: &str) -> Rule {
    let matches = format!("one.matches({})", cel(pattern));
    let (before, behind) = (
        format!("names the {what} \""),
        format!("\", which is not {form}"),
    );
    naming(
        format!("self.all(one, {matches})"),
        format!(
            "{} + self.filter(one, !{matches})[0] + {}",
            cel(&before),
            cel(&behind)
        ),
    )
}

fn no_addresses() -> Rule {
    naming(
        "self.all(one, !isIP(one))",
        "'names the host \"' + self.filter(one, isIP(one))[0] + '\"; an IP address is not allowed'",
    )
}

fn path_characters() -> Rule {
    let other = cel(path::OTHER);
    naming(
        format!("!self.matches({other})"),
        format!(
            "'has the character \"' + self.find({other}) + '\" ' + {}",
            cel(path::CHARACTERS)
        ),
    )
}

fn path_escapes() -> Rule {
    let broken = cel("%([^0-9A-Fa-f]|.[^0-9A-Fa-f]|.?$)");
    let message = format!("has the character \"%\" {}", path::CHARACTERS);
    rule(format!("!self.matches({broken})"), &message)
}

fn path_parts() -> Rule {
    let parts = path::PARTS.map(cel).join(", ");
    let found = format!("[{parts}].filter(part, self.lowerAscii().contains(part))");
    naming(
        format!("{found}.size() == 0"),
        format!("'has \"' + {found}[0] + '\" ' + {}", cel(path::NO_PART)),
    )
}

fn label_keys() -> Rule {
    let matches = format!("key.matches({})", cel(LabelKey::PATTERN));
    naming(
        format!("self.all(key, {matches})"),
        format!(
            "'has the label key \"' + self.filter(key, !{matches})[0] + '\", which Kubernetes does not allow'"
        ),
    )
}

fn label_values() -> Rule {
    let matches = format!("self[key].matches({})", cel(LabelValue::PATTERN));
    naming(
        format!("self.all(key, {matches})"),
        format!(
            "'has the label value \"' + self[self.filter(key, !{matches})[0]] + '\", which Kubernetes does not allow'"
        ),
    )
}
