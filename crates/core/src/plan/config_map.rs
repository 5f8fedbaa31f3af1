//! The endpoint picker's configuration.

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::plugins_config::{Plugin, PluginsConfig};
use serde_json::{Value, json};

use super::Input;
use crate::config::EndpointPickerConfig;
use crate::target::Engine;

/// The file that the endpoint picker reads.
pub(super) const FILE: &str = "default-plugins.yaml";

pub(super) fn build(input: &Input<'_>) -> Value {
    let mut object = input.head(ChildKind::ConfigMap, &input.topology.names.picker);
    object["data"] = json!({FILE: text(&input.picker, input.topology.engine)});
    object
}

/// The file's text: JSON is YAML, and indented it can be read as well.
pub(super) fn text(picker: &EndpointPickerConfig, engine: Engine) -> String {
    let mut config = json!({
        "apiVersion": picker.flavour.config_api_version(),
        "kind": "EndpointPickerConfig",
    });
    let given = serde_json::to_value(plugins(picker, engine));
    if let (Some(config), Ok(Value::Object(given))) = (config.as_object_mut(), given) {
        config.extend(given);
    }
    serde_yaml::to_string(&config).unwrap_or_else(|_| config.to_string())
}

/// What the picker chooses by, with what tells it the names of the engine's metrics, where it takes that from here.
/// <https://github.com/kubernetes-sigs/gateway-api-inference-extension/blob/v1.5.0/pkg/epp/framework/plugins/datalayer/extractor/metrics/factories.go>
fn plugins(picker: &EndpointPickerConfig, engine: Engine) -> PluginsConfig {
    const EXTRACTOR: &str = "core-metrics-extractor";
    let mut config = picker.plugins_config.with_defaults();
    let plugins = config.plugins.get_or_insert_default();
    let is_given = plugins.iter().any(|plugin| plugin.r#type == EXTRACTOR);
    if engine != Engine::Vllm && picker.has_metrics_extractor() && !is_given {
        let engine = ("defaultEngine".to_owned(), json!(engine.as_str()));
        plugins.push(Plugin {
            name: None,
            r#type: EXTRACTOR.to_owned(),
            parameters: Some([engine].into_iter().collect()),
        });
    }
    config
}
