//! The endpoint picker's configuration.

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};

use super::Input;

/// The file that the endpoint picker reads.
pub(super) const FILE: &str = "default-plugins.yaml";

/// The plugins and weights of the inference extension's own chart.
/// <https://github.com/kubernetes-sigs/gateway-api-inference-extension/tree/v1.5.0/config/charts>
pub(super) const PLUGINS: &str = "\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
    weight: 2
  - pluginRef: kv-cache-utilization-scorer
    weight: 2
  - pluginRef: prefix-cache-scorer
    weight: 3
";

pub(super) fn build(input: &Input<'_>) -> Value {
    let mut object = input.head(ChildKind::ConfigMap, &input.topology.names.picker);
    object["data"] = json!({FILE: PLUGINS});
    object
}
