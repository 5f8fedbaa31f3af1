//! The endpoint picker's configuration.

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};

use super::Input;
use crate::config::EndpointPickerConfig;

/// The file that the endpoint picker reads.
pub(super) const FILE: &str = "default-plugins.yaml";

pub(super) fn build(input: &Input<'_>) -> Value {
    let mut object = input.head(ChildKind::ConfigMap, &input.topology.names.picker);
    object["data"] = json!({FILE: text(&input.config.endpoint_picker)});
    object
}

/// The file's text: JSON is YAML, and indented it can be read as well.
pub(super) fn text(picker: &EndpointPickerConfig) -> String {
    let mut config = json!({
        "apiVersion": picker.flavour.config_api_version(),
        "kind": "EndpointPickerConfig",
    });
    let given = serde_json::to_value(picker.plugins_config.with_defaults());
    if let (Some(config), Ok(Value::Object(given))) = (config.as_object_mut(), given) {
        config.extend(given);
    }
    serde_yaml::to_string(&config).unwrap_or_else(|_| config.to_string())
}
