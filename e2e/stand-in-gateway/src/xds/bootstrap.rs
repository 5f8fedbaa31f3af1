//! What Envoy starts with: where its configuration is, and its admin interface.

use std::path::Path;

use serde_json::{Value, json};

use super::config_source;

pub(crate) fn bootstrap(dir: &Path, admin_port: u16) -> Value {
    json!({
        "node": {"id": "stand-in-gateway", "cluster": "stand-in-gateway"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        "dynamic_resources": {
            "lds_config": config_source(&dir.join("lds.json")),
            "cds_config": config_source(&dir.join("cds.json")),
        },
    })
}
