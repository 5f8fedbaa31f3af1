//! The operator's configuration: what holds for every Model that does not say otherwise.

mod check;
mod picker;
mod pod;
mod quantity;

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::{NonZeroU16, NonZeroU32};

use kthena_bridge_api::text::{
    DefaultGateway, DomainName, GatewayPattern, HostnameTemplate, LogLevel, NamespaceName,
    ObjectName, PathTemplate, quote,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::provider::{self, Provider};

pub use picker::{EndpointPickerConfig, Flavour, NetworkPolicyConfig};
pub use pod::{
    EnvVar, EnvVarSource, IpBlock, KeySelector, LabelSelector, LabelSelectorOperator,
    LabelSelectorRequirement, LocalObjectReference, NetworkPolicyPeer, PullPolicy, Resources,
    TaintEffect, Toleration, TolerationOperator,
};
pub use quantity::Quantity;

/// What the Gateway does with a request while the endpoint picker does not answer.
/// <https://gateway-api-inference-extension.sigs.k8s.io/reference/spec/>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailureMode {
    /// It sends it to any ready pod.
    #[default]
    FailOpen,
    /// It refuses it.
    FailClose,
}

impl FailureMode {
    /// As it stands in an InferencePool.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailOpen => "FailOpen",
            Self::FailClose => "FailClose",
        }
    }
}

/// Whether something on the Gateways sets the header `X-Gateway-Model-Name` from the request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelHeader {
    /// Nothing does: a route that matches it would never be chosen.
    #[default]
    None,
    /// Something does, such as the inference extension's body-based routing.
    Provided,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The operator's configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The Gateways of a Model that names none: `[namespace/]name[:listener]`, comma-separated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_gateway: Option<DefaultGateway>,
    /// The Gateways that Models may be exposed on: `[namespace/]name`, in which `*` stands for anything;
    /// without a namespace, those of the Model's own. All when it is empty.
    pub allowed_gateways: Vec<GatewayPattern>,
    /// Gateways that may not be read, or whose GatewayClass may not, with their implementations. Needs a
    /// restart.
    pub gateways: Vec<GatewayConfig>,
    /// The namespaces whose Models are exposed; all when it is empty. With namespaces, nothing is read that
    /// belongs to none of them: Gateways of others, and the implementation of all, are what `gateways` says.
    /// Needs a restart.
    pub namespaces: Vec<NamespaceName>,
    /// The host name of a Model that names none; `{namespace}` and `{name}` are filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname_template: Option<HostnameTemplate>,
    /// The path of a Model that names none; `{namespace}` and `{name}` are filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_template: Option<PathTemplate>,
    /// Whether `X-Gateway-Model-Name` can be matched.
    pub model_header: ModelHeader,
    /// The failure mode of a Model that names none.
    pub failure_mode: FailureMode,
    /// The DNS domain of the cluster's Services.
    pub cluster_domain: DomainName,
    /// The endpoint pickers that are run.
    pub endpoint_picker: EndpointPickerConfig,
    /// Requests through the Gateways, for the condition `Reachable`. Needs a restart.
    pub reachable: ReachableConfig,
    /// How many Models are reconciled at the same time. `--concurrency` goes before it. Needs a restart.
    pub concurrency: NonZeroU16,
    /// What is logged: `off`, `error`, `warn`, `info`, `debug`, `trace`, or a list of target=level.
    /// `--log` goes before it.
    pub log_level: LogLevel,
    /// The form of the log. `--log-format` goes before it. Needs a restart.
    pub log_format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_gateway: None,
            allowed_gateways: Vec::new(),
            gateways: Vec::new(),
            namespaces: Vec::new(),
            hostname_template: None,
            path_template: None,
            model_header: ModelHeader::default(),
            failure_mode: FailureMode::default(),
            cluster_domain: DomainName::known("cluster.local"),
            endpoint_picker: EndpointPickerConfig::default(),
            reachable: ReachableConfig::default(),
            concurrency: NonZeroU16::MIN.saturating_add(15),
            log_level: LogLevel::known("info"),
            log_format: LogFormat::default(),
        }
    }
}

/// A Gateway that may not be read, or whose GatewayClass may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayConfig {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its name.
    pub name: ObjectName,
    /// Its implementation.
    pub provider: ProviderName,
}

/// The name of an implementation of Gateway API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderName(&'static str);

impl ProviderName {
    fn all() -> Vec<&'static str> {
        provider::ALL.iter().map(|provider| provider.name).collect()
    }

    /// What is known of the implementation.
    pub fn provider(&self) -> &'static Provider {
        Provider::named(self.0).unwrap_or(&provider::GENERIC)
    }
}

impl<'de> Deserialize<'de> for ProviderName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = Provider::named(&name).map(|provider| Self(provider.name));
        known.ok_or_else(|| {
            let all = Self::all().join(", ");
            D::Error::custom(format!("{} is none of {all}", quote(&name)))
        })
    }
}

impl JsonSchema for ProviderName {
    fn schema_name() -> Cow<'static, str> {
        "ProviderName".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": Self::all()})
    }
}

/// Requests through the Gateways, for the condition `Reachable`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReachableConfig {
    /// Whether they are sent.
    pub enabled: bool,
    /// Seconds between two requests for a Model, 1 or more.
    #[schemars(range(min = 1))]
    pub interval_seconds: NonZeroU32,
}

impl Default for ReachableConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            interval_seconds: NonZeroU32::MIN.saturating_add(59),
        }
    }
}

/// What is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if field.is_empty() { String::new() } else { format!("field {field}: ") })]
pub struct InvalidConfig {
    /// The field's path, such as `endpointPicker.env[0].name`; empty where it is about the whole file.
    pub field: String,
    /// What is wrong with it, and what is allowed.
    pub problem: String,
}

impl Config {
    /// Reads a configuration file's text, YAML or JSON. What is not given has its default.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let whole = |problem: String| InvalidConfig {
            field: String::new(),
            problem,
        };
        // By way of YAML's own values, which notice a field that is there twice, and JSON's, so that both
        // forms of the file are read alike.
        let yaml: serde_yaml::Value =
            serde_yaml::from_str(text).map_err(|e| whole(e.to_string()))?;
        if yaml.is_null() {
            return Ok(Self::default());
        }
        let json = serde_json::to_value(yaml).map_err(|e| whole(e.to_string()))?;
        let config: Self = serde_path_to_error::deserialize(json).map_err(|e| InvalidConfig {
            field: e.path().to_string().trim_start_matches('.').to_owned(),
            problem: in_plain_words(&e.inner().to_string()),
        })?;
        check::check(&config)?;
        Ok(config)
    }

    /// The JSON Schema of the configuration file.
    pub fn schema() -> Schema {
        let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
            // Helm's values.schema.json takes it in as a part, which has no definitions of its own.
            settings.inline_subschemas = true;
        });
        settings.into_generator().into_root_schema_for::<Self>()
    }

    /// Whether the Models of a namespace are looked at.
    pub fn watches(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|n| n.as_str() == namespace)
    }

    /// The implementations of the Gateways in `gateways`, by namespace and name.
    pub fn providers(&self) -> HashMap<(String, String), &'static Provider> {
        let named =
            |g: &GatewayConfig| (g.namespace.as_str().to_owned(), g.name.as_str().to_owned());
        let gateways = self.gateways.iter();
        gateways
            .map(|g| (named(g), g.provider.provider()))
            .collect()
    }

    /// Leaves what is looked at only at the start as it was then; tells the fields that would have differed.
    pub fn keep_from_start(&mut self, started: &Self) -> Vec<&'static str> {
        let mut fields = Vec::new();
        keep(
            &mut self.gateways,
            &started.gateways,
            "gateways",
            &mut fields,
        );
        keep(
            &mut self.namespaces,
            &started.namespaces,
            "namespaces",
            &mut fields,
        );
        keep(
            &mut self.reachable,
            &started.reachable,
            "reachable",
            &mut fields,
        );
        keep(
            &mut self.concurrency,
            &started.concurrency,
            "concurrency",
            &mut fields,
        );
        keep(
            &mut self.log_format,
            &started.log_format,
            "logFormat",
            &mut fields,
        );
        fields
    }
}

fn keep<T: Clone + PartialEq>(
    now: &mut T,
    started: &T,
    field: &'static str,
    fields: &mut Vec<&'static str>,
) {
    if now != started {
        now.clone_from(started);
        fields.push(field);
    }
}

/// What a decoder says, without the names of our types.
fn in_plain_words(problem: &str) -> String {
    let problem = problem
        .replace("a nonzero u16", "a whole number from 1 to 65535")
        .replace("a nonzero u32", "a whole number from 1 to 4294967295");
    match problem.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected fields, each with a value"),
        None => problem,
    }
}

#[cfg(test)]
mod tests;
