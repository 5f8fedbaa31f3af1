//! The endpoint pickers that are run.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::plugins_config::PluginsConfig;
use kthena_bridge_api::text::{
    Argument, Image, LabelKey, LabelValue, ObjectName, ResourceName, RoleName, Version,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pod::{
    EnvVar, LocalObjectReference, NetworkPolicyPeer, PullPolicy, Resources, Toleration,
};
use super::quantity::Quantity;
use super::{InvalidConfig, check};
use crate::exposure::PickerSettings;

/// Whose endpoint picker is run. It decides the API group of what the picker reads, and its flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Flavour {
    /// Gateway API's inference extension, from v1.0 to v1.5, its last one.
    #[default]
    #[serde(rename = "gie")]
    Gie,
    /// llm-d's router, from v0.9 on, which goes on from there.
    #[serde(rename = "llm-d")]
    LlmD,
}

impl Flavour {
    /// As it stands in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gie => "gie",
            Self::LlmD => "llm-d",
        }
    }

    /// The kind of the objectives that it reads.
    pub fn objective(self) -> ChildKind {
        match self {
            Self::Gie => ChildKind::InferenceObjective,
            Self::LlmD => ChildKind::LlmDInferenceObjective,
        }
    }

    /// The kind of the rewrites that it reads.
    pub fn model_rewrite(self) -> ChildKind {
        match self {
            Self::Gie => ChildKind::InferenceModelRewrite,
            Self::LlmD => ChildKind::LlmDInferenceModelRewrite,
        }
    }

    /// The version of its EndpointPickerConfig.
    pub(crate) fn config_api_version(self) -> &'static str {
        match self {
            Self::Gie => "inference.networking.x-k8s.io/v1alpha1",
            Self::LlmD => "llm-d.ai/v1alpha1",
        }
    }

    /// The image that is run when none is named.
    fn image(self) -> &'static str {
        match self {
            Self::Gie => "registry.k8s.io/gateway-api-inference-extension/epp:v1.5.0",
            Self::LlmD => "ghcr.io/llm-d/llm-d-router-endpoint-picker:v0.9.0",
        }
    }

    /// Whose the image of this name is.
    pub fn of_image(name: &str) -> Option<Self> {
        match name {
            "epp" => Some(Self::Gie),
            // As it was called before v0.10, and since.
            "llm-d-inference-scheduler" | "llm-d-router-endpoint-picker" => Some(Self::LlmD),
            _ => None,
        }
    }

    /// Whether a version, without its patch, is known to work.
    pub fn knows(self, version: (u32, u32)) -> bool {
        let (first, last) = self.versions();
        version >= first && last.is_none_or(|last| version <= last)
    }

    /// The versions that are known to work, in words.
    pub fn range(self) -> String {
        let ((major, minor), last) = self.versions();
        let until = last.map_or_else(
            || " and later".to_owned(),
            |(major, minor)| format!(" to v{major}.{minor}"),
        );
        format!("v{major}.{minor}{until}")
    }

    /// Its first and its last version that are known to work; some have no last one.
    fn versions(self) -> ((u32, u32), Option<(u32, u32)>) {
        match self {
            Self::Gie => ((1, 0), Some((1, 5))),
            Self::LlmD => ((0, 9), None),
        }
    }
}

/// The endpoint pickers that are run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EndpointPickerConfig {
    /// Whose endpoint picker it is: `gie` is that of Gateway API's inference extension up to v1.5, `llm-d`
    /// is llm-d's router from v0.9 on. It decides the API group of InferenceObjective and
    /// InferenceModelRewrite.
    pub flavour: Flavour,
    /// The image; the default is `registry.k8s.io/gateway-api-inference-extension/epp:v1.5.0`, and with
    /// `llm-d` it is `ghcr.io/llm-d/llm-d-router-endpoint-picker:v0.9.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// The version that the image has, which decides its flags; the default is what the image's tag says,
    /// or else the newest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// When the image is pulled.
    pub image_pull_policy: PullPolicy,
    /// Secrets that the image is pulled with, in the Models' namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// How many of each there are. Of several one answers, the leader, and the others wait to follow it.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: NonZeroU16,
    /// What each requests, and what it may use.
    pub resources: Resources,
    /// More flags, one word each. Those that tie a picker to its Model cannot be given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Argument>,
    /// More environment variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// What the pickers choose by: an EndpointPickerConfig. A field that is given replaces the default's.
    pub plugins_config: PluginsConfig,
    /// Labels of the nodes that they run on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<LabelKey, LabelValue>,
    /// Taints of nodes that they put up with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Their priority among pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<ObjectName>,
    /// The ClusterRole that each is bound to, in its Model's namespace.
    pub cluster_role: RoleName,
    /// A NetworkPolicy for each.
    pub network_policy: NetworkPolicyConfig,
}

impl Default for EndpointPickerConfig {
    fn default() -> Self {
        Self {
            flavour: Flavour::default(),
            image: None,
            version: None,
            image_pull_policy: PullPolicy::default(),
            image_pull_secrets: Vec::new(),
            replicas: NonZeroU16::MIN,
            resources: Resources::default(),
            args: Vec::new(),
            env: Vec::new(),
            plugins_config: PluginsConfig::default(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            priority_class_name: None,
            cluster_role: RoleName::known("kthena-bridge-endpoint-picker"),
            network_policy: NetworkPolicyConfig::default(),
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        let requests = [("cpu", "100m"), ("memory", "128Mi")];
        Self {
            requests: requests
                .into_iter()
                .filter_map(|(name, amount)| {
                    Some((ResourceName::known(name), Quantity::new(amount).ok()?))
                })
                .collect(),
            limits: BTreeMap::new(),
        }
    }
}

impl EndpointPickerConfig {
    /// What holds for a Model that says this of its endpoint picker.
    #[must_use]
    pub fn with(&self, settings: &PickerSettings) -> Self {
        let mut config = self.clone();
        if let Some(replicas) = settings.replicas {
            config.replicas = replicas;
        }
        if let Some(resources) = &settings.resources {
            config.resources = resources.clone();
        }
        if let Some(plugins) = &settings.plugins_config {
            config.plugins_config = config.plugins_config.with(plugins);
        }
        config
    }

    /// Checks that its fields go together.
    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        check::picker(self)
    }

    /// The image that is run.
    pub fn image(&self) -> &str {
        let named = self.image.as_ref().map(Image::as_str);
        named.unwrap_or_else(|| self.flavour.image())
    }

    /// Its major and minor version: what is said, else what the tag says, else the newest.
    fn numbers(&self) -> (u32, u32) {
        let of_tag = || self.image.as_ref().and_then(Image::version);
        let version = self.version.clone().or_else(of_tag);
        version.map_or((u32::MAX, 0), |version| version.numbers())
    }

    fn is_gie_before(&self, version: (u32, u32)) -> bool {
        self.flavour == Flavour::Gie && self.numbers() < version
    }

    /// Whether it has flags for tracing and for who may read its metrics: gie has them from v1.1 on.
    pub(crate) fn has_metrics_flags(&self) -> bool {
        !self.is_gie_before((1, 1))
    }

    /// Whether its configuration says what the engine's metrics are called: with gie up to v1.3 flags do.
    /// <https://github.com/kubernetes-sigs/gateway-api-inference-extension/blob/v1.2.0/cmd/epp/runner/runner.go>
    pub(crate) fn has_metrics_extractor(&self) -> bool {
        !self.is_gie_before((1, 4))
    }

    /// Whether it reads InferenceModelRewrites: gie does from v1.3 on.
    pub(crate) fn rewrites_models(&self) -> bool {
        !self.is_gie_before((1, 3))
    }

    /// Whether it ends where the kind of its objectives is not installed: gie does before v1.3.
    /// <https://github.com/kubernetes-sigs/gateway-api-inference-extension/issues/1737>
    pub(crate) fn needs_objectives(&self) -> bool {
        self.is_gie_before((1, 3))
    }
}

/// A NetworkPolicy for each endpoint picker. What it does not name cannot connect to the picker, and the
/// picker connects to nothing else but the API server, DNS and the pods of its Model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkPolicyConfig {
    /// Whether it is written.
    pub enabled: bool,
    /// The Gateways' pods, which ask the picker on port 9002: NetworkPolicy peers; everybody when it is
    /// empty. Where they run, and their labels, are the Gateway implementation's choice.
    pub gateways: Vec<NetworkPolicyPeer>,
    /// Who may read its metrics, on port 9090: NetworkPolicy peers; everybody when it is empty.
    pub metrics: Vec<NetworkPolicyPeer>,
    /// The ports of the API server, at its own address: most network plugins look behind its Service.
    pub api_server_ports: Vec<NonZeroU16>,
    /// Whom else it may connect to, on any port, such as a collector of traces: NetworkPolicy peers.
    pub more_egress: Vec<NetworkPolicyPeer>,
}

impl Default for NetworkPolicyConfig {
    fn default() -> Self {
        let ports = [443, 6443];
        Self {
            enabled: false,
            gateways: Vec::new(),
            metrics: Vec::new(),
            api_server_ports: ports.into_iter().filter_map(NonZeroU16::new).collect(),
            more_egress: Vec::new(),
        }
    }
}
