//! Copies under other names, for objects whose names the operator needs: Kubernetes cannot rename.
//!
//! The copies serve the same requests with the same pods, so that the originals can go before the operator's
//! objects of the same names come.

use std::collections::BTreeMap;

use kthena_bridge_core::exposure::ENDPOINT_PICKER_PORT;
use kthena_bridge_core::names::short_hash;
use serde_json::{Value, json};

use super::by_hand::ByHand;
use super::object::Object;

/// Label on the copies: what they are made for.
pub(super) const LABEL: &str = "kthena-bridge.io/set-aside-for";
const SUFFIX: &str = "-by-hand";
/// The longest name of a Service, and value of a label.
const LONGEST: usize = 63;

/// The name of a copy.
fn aside(name: &str) -> String {
    if name.len() + SUFFIX.len() <= LONGEST {
        return format!("{name}{SUFFIX}");
    }
    let end = LONGEST - SUFFIX.len() - 9;
    let stem = name
        .get(..end)
        .unwrap_or_default()
        .trim_end_matches(['-', '.']);
    format!("{stem}-{}{SUFFIX}", short_hash(name.as_bytes()))
}

/// Copies of everything, which refer to one another as the originals do.
///
/// # Errors
/// What cannot be copied, and why.
pub(super) fn copies(by_hand: &ByHand, model: &str) -> Result<ByHand, String> {
    let copier = Copier { by_hand, model };
    Ok(ByHand {
        route: copier.copy(&by_hand.route)?,
        pool: copier.copy(&by_hand.pool)?,
        others: by_hand
            .others
            .iter()
            .map(|o| copier.copy(o))
            .collect::<Result<_, _>>()?,
        left: Vec::new(),
    })
}

struct Copier<'a> {
    by_hand: &'a ByHand,
    model: &'a str,
}

impl Copier<'_> {
    /// The name of the copy of an object; the same name for one that is not copied.
    fn name(&self, kind: &str, name: &str) -> String {
        if self.by_hand.of(kind).any(|o| o.name() == name) {
            aside(name)
        } else {
            name.to_owned()
        }
    }

    fn rename(&self, kind: &str, name: Option<&mut Value>) {
        if let Some(value) = name
            && let Some(text) = value.as_str()
        {
            *value = self.name(kind, text).into();
        }
    }

    fn copy(&self, original: &Object) -> Result<Object, String> {
        let mut value = original.value.clone();
        if let Some(object) = value.as_object_mut() {
            object.remove("status");
        }
        let mut labels: BTreeMap<&str, &str> = original
            .map("/metadata/labels")
            .filter(|(key, _)| !is_keepers(key))
            .collect();
        labels.insert(LABEL, self.model);
        let annotations: BTreeMap<&str, &str> = original
            .map("/metadata/annotations")
            .filter(|(key, _)| !is_keepers(key))
            .collect();
        value["metadata"] = json!({
            "name": aside(original.name()),
            "namespace": original.namespace(),
            "labels": labels,
            "annotations": annotations,
        });
        match original.resource.kind.as_str() {
            "HTTPRoute" => {
                for backend in each(&mut value, "/spec/rules", "backendRefs") {
                    if backend["kind"] == "InferencePool" {
                        self.rename("InferencePool", backend.get_mut("name"));
                    }
                }
            }
            "InferencePool" => {
                self.rename("Service", value.pointer_mut("/spec/endpointPickerRef/name"));
            }
            "InferenceObjective" | "InferenceModelRewrite" => {
                self.rename("InferencePool", value.pointer_mut("/spec/poolRef/name"));
            }
            "DestinationRule" => {
                let host = original.text("/spec/host");
                let (service, domain) = host.split_at(host.find('.').unwrap_or(host.len()));
                value["spec"]["host"] = format!("{}{domain}", self.name("Service", service)).into();
            }
            "RoleBinding" => {
                if original.text("/roleRef/kind") == "Role" {
                    self.rename("Role", value.pointer_mut("/roleRef/name"));
                }
                for subject in value["subjects"].as_array_mut().into_iter().flatten() {
                    self.rename("ServiceAccount", subject.get_mut("name"));
                }
            }
            "ServiceAccount" => {
                // Tokens of the original.
                if let Some(account) = value.as_object_mut() {
                    account.remove("secrets");
                }
            }
            "Service" => self.service(&mut value),
            "Deployment" => self.deployment(original, &mut value)?,
            _ => {}
        }
        Ok(Object::new(&original.resource, value))
    }

    /// The copies' pods have to be told apart from the originals'.
    fn service(&self, value: &mut Value) {
        if let Some(spec) = value["spec"].as_object_mut() {
            for field in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
                spec.remove(field);
            }
        }
        for port in value["spec"]["ports"].as_array_mut().into_iter().flatten() {
            if let Some(port) = port.as_object_mut() {
                port.remove("nodePort");
            }
        }
        self.relabel(value.pointer_mut("/spec/selector"));
    }

    fn deployment(&self, original: &Object, value: &mut Value) -> Result<(), String> {
        self.relabel(value.pointer_mut("/spec/selector/matchLabels"));
        self.relabel(value.pointer_mut("/spec/template/metadata/labels"));
        let Some(pod) = value.pointer_mut("/spec/template/spec") else {
            return Err(format!("{original} has no pods"));
        };
        for field in ["serviceAccountName", "serviceAccount"] {
            self.rename("ServiceAccount", pod.get_mut(field));
        }
        for volume in pod["volumes"].as_array_mut().into_iter().flatten() {
            self.rename("ConfigMap", volume.pointer_mut("/configMap/name"));
        }
        let mut told = false;
        for container in pod["containers"].as_array_mut().into_iter().flatten() {
            let mut is_picker = false;
            for field in ["command", "args"] {
                let words = container.get_mut(field).and_then(Value::as_array_mut);
                is_picker |= words.is_some_and(|words| self.tell_pool(words));
            }
            // It is well by its own account some seconds before it listens for the Gateway.
            if is_picker && container.get("startupProbe").is_none() {
                container["startupProbe"] = json!({
                    "tcpSocket": {"port": self.picker_port()},
                    "periodSeconds": 1,
                    "failureThreshold": 120,
                });
            }
            told |= is_picker;
        }
        if told {
            return Ok(());
        }
        Err(format!(
            "{original} names its pool in no --pool-name, so that none can be run for another pool"
        ))
    }

    /// The port of the endpoint picker's container that the pool's requests come to.
    fn picker_port(&self) -> Value {
        let port = self
            .by_hand
            .pool
            .value
            .pointer("/spec/endpointPickerRef/port/number");
        let port = port.cloned().unwrap_or_else(|| ENDPOINT_PICKER_PORT.into());
        let services = self.by_hand.of("Service");
        let mut ports = services.flat_map(|service| service.list("/spec/ports"));
        let of_service = ports.find(|p| p["port"] == port);
        of_service
            .and_then(|p| p.get("targetPort"))
            .cloned()
            .unwrap_or(port)
    }

    /// Gives the endpoint picker the copy of its pool.
    fn tell_pool(&self, words: &mut [Value]) -> bool {
        let pool = self.by_hand.pool.name();
        let mut told = false;
        let mut is_next = false;
        for word in words {
            let Some(text) = word.as_str() else { continue };
            let flag = text.trim_start_matches('-');
            let (flag, value) = match flag.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (flag, None),
            };
            let is_flag = text.starts_with('-') && matches!(flag, "pool-name" | "poolName");
            let renamed = if is_next && text == pool {
                Some(aside(pool))
            } else if is_flag && value == Some(pool) {
                let prefix = text.strip_suffix(pool).unwrap_or_default();
                Some(format!("{prefix}{}", aside(pool)))
            } else {
                None
            };
            is_next = is_flag && value.is_none();
            if let Some(renamed) = renamed {
                *word = renamed.into();
                told = true;
            }
        }
        told
    }

    /// Changes the values of the labels by which Services and Deployments find their pods.
    fn relabel(&self, labels: Option<&mut Value>) {
        let services = self
            .by_hand
            .of("Service")
            .flat_map(|s| s.map("/spec/selector"));
        let deployments = self.by_hand.of("Deployment");
        let deployments = deployments.flat_map(|d| d.map("/spec/selector/matchLabels"));
        let keys: Vec<&str> = services.chain(deployments).map(|(key, _)| key).collect();
        for (key, value) in labels.and_then(Value::as_object_mut).into_iter().flatten() {
            if keys.contains(&key.as_str())
                && let Some(text) = value.as_str()
            {
                *value = aside(text).into();
            }
        }
    }
}

/// What tools write on what they keep: on a copy, it would have them delete it.
fn is_keepers(key: &str) -> bool {
    matches!(
        key,
        "app.kubernetes.io/managed-by"
            | "app.kubernetes.io/instance"
            | "helm.sh/chart"
            | "deployment.kubernetes.io/revision"
    ) || [
        "meta.helm.sh/",
        "argocd.argoproj.io/",
        "kubectl.kubernetes.io/",
    ]
    .iter()
    .any(|prefix| key.starts_with(prefix))
        || key.contains(".toolkit.fluxcd.io/")
}

/// The items of a list in each item of a list.
fn each<'a>(
    value: &'a mut Value,
    pointer: &str,
    field: &'a str,
) -> impl Iterator<Item = &'a mut Value> {
    let outer = value.pointer_mut(pointer).and_then(Value::as_array_mut);
    let outer = outer.into_iter().flatten();
    outer
        .filter_map(move |item| item.get_mut(field)?.as_array_mut())
        .flatten()
}
