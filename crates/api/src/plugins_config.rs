//! The endpoint picker's own configuration, as far as the operator's configuration or a ModelExposure gives it.
//! <https://gateway-api-inference-extension.sigs.k8s.io/guides/epp-configuration/config-text/>

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An EndpointPickerConfig without its version and kind. A field that is given replaces the default's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PluginsConfig {
    /// The plugins that there are; the default is those of the inference extension's own chart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugins: Option<Vec<Plugin>>,
    /// What the plugins are used for; the default weighs queue, KV cache and prefix cache 2:2:3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduling_profiles: Option<Vec<SchedulingProfile>>,
    /// Experimental features that are on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_gates: Option<Vec<String>>,
    /// How the picker finds out that all pods are busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub saturation_detector: Option<Map<String, Value>>,
    /// Where the picker gets what it knows of the pods from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub data_layer: Option<Map<String, Value>>,
    /// How requests wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub flow_control: Option<Map<String, Value>>,
    /// How requests are read, for the flavour gie.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub parser: Option<Map<String, Value>>,
    /// How requests are read, for the flavour llm-d.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub request_handler: Option<Map<String, Value>>,
}

/// A plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plugin {
    /// What it is called elsewhere; its type when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is.
    pub r#type: String,
    /// What it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub parameters: Option<Map<String, Value>>,
}

/// Plugins that choose together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchedulingProfile {
    /// Its name.
    pub name: String,
    /// Its plugins.
    pub plugins: Vec<SchedulingPlugin>,
}

/// A plugin of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchedulingPlugin {
    /// The plugin's name.
    pub plugin_ref: String,
    /// Its weight, for one that scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<serde_json::Number>,
}

impl Plugin {
    fn of_type(r#type: &str) -> Self {
        Self {
            name: None,
            r#type: r#type.to_owned(),
            parameters: None,
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.r#type)
    }
}

impl PluginsConfig {
    /// This, with another one's fields in place of its own where they are given.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        fn first<T: Clone>(other: Option<&T>, own: Option<&T>) -> Option<T> {
            other.or(own).cloned()
        }
        Self {
            plugins: first(other.plugins.as_ref(), self.plugins.as_ref()),
            scheduling_profiles: first(
                other.scheduling_profiles.as_ref(),
                self.scheduling_profiles.as_ref(),
            ),
            feature_gates: first(other.feature_gates.as_ref(), self.feature_gates.as_ref()),
            saturation_detector: first(
                other.saturation_detector.as_ref(),
                self.saturation_detector.as_ref(),
            ),
            data_layer: first(other.data_layer.as_ref(), self.data_layer.as_ref()),
            flow_control: first(other.flow_control.as_ref(), self.flow_control.as_ref()),
            parser: first(other.parser.as_ref(), self.parser.as_ref()),
            request_handler: first(
                other.request_handler.as_ref(),
                self.request_handler.as_ref(),
            ),
        }
    }

    /// What is given, with the defaults for the rest: the plugins and weights of the inference
    /// extension's own chart.
    /// <https://github.com/kubernetes-sigs/gateway-api-inference-extension/tree/v1.5.0/config/charts>
    #[must_use]
    pub fn with_defaults(&self) -> Self {
        const DEFAULT: [(&str, u8); 3] = [
            ("queue-scorer", 2),
            ("kv-cache-utilization-scorer", 2),
            ("prefix-cache-scorer", 3),
        ];
        let plugins = || DEFAULT.map(|(name, _)| Plugin::of_type(name)).into();
        let profile = || {
            let plugins = DEFAULT.map(|(name, weight)| SchedulingPlugin {
                plugin_ref: name.to_owned(),
                weight: Some(weight.into()),
            });
            vec![SchedulingProfile {
                name: "default".to_owned(),
                plugins: plugins.into(),
            }]
        };
        Self {
            plugins: Some(self.plugins.clone().unwrap_or_else(plugins)),
            scheduling_profiles: Some(self.scheduling_profiles.clone().unwrap_or_else(profile)),
            ..self.clone()
        }
    }
}
