//! Pods: whether they are ready, what they serve, and what they wait for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod as Whole};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use super::Metadata;

/// The container that Kthena puts beside every engine. What it serves are metrics and downloads.
const RUNTIME: &str = "runtime";

/// A pod, as far as it is looked at.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Pod {
    /// Its metadata.
    pub metadata: Metadata,
    /// Its labels, in their order.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Whether it is ready and not on its way out.
    pub ready: bool,
    /// The ports that it serves on, as far as it shows: those that its readiness is probed at, which may
    /// be for nothing else, and those that it declares. Empty when it shows nothing.
    pub ports: Vec<u16>,
    /// What keeps it from running, in words that do not change while it does.
    pub stuck: Option<String>,
}

impl Pod {
    /// Whether it carries all of these labels.
    pub fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        labels
            .iter()
            .all(|(key, value)| self.label(key) == Some(value))
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let found = self.labels.binary_search_by(|(own, _)| (**own).cmp(key));
        Some(&self.labels[found.ok()?].1)
    }

    /// Whether requests to this port may be answered: nothing shows that it serves on others only.
    pub fn may_serve(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }
}

impl From<Whole> for Pod {
    fn from(whole: Whole) -> Self {
        let ending = whole.metadata.deletion_timestamp.is_some();
        let labels = whole.metadata.labels.iter().flatten();
        Self {
            ready: !ending && condition(&whole, "Ready") == Some("True"),
            ports: ports(&whole),
            stuck: if ending { None } else { stuck(&whole) },
            labels: labels
                .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
                .collect(),
            metadata: Metadata::from(whole.metadata),
        }
    }
}

fn condition<'a>(pod: &'a Whole, type_: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_ == type_)
        .map(|c| c.status.as_str())
}

fn ports(pod: &Whole) -> Vec<u16> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let engines: Vec<&Container> = containers.filter(|c| c.name != RUNTIME).collect();
    let declared = engines.iter().flat_map(|c| c.ports.iter().flatten());
    let tcp = declared.filter(|p| p.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let mut ports: Vec<u16> = tcp
        .filter_map(|p| u16::try_from(p.container_port).ok())
        .collect();
    ports.extend(engines.iter().filter_map(|c| probed_port(c)));
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Where an HTTP or TCP probe asks whether the container is ready.
fn probed_port(container: &Container) -> Option<u16> {
    let probe = container.readiness_probe.as_ref()?;
    let port = match (&probe.http_get, &probe.tcp_socket) {
        (Some(http), _) => &http.port,
        (None, Some(tcp)) => &tcp.port,
        (None, None) => return None,
    };
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports
                .find(|p| p.name.as_ref() == Some(name))?
                .container_port
        }
    };
    u16::try_from(number).ok()
}

fn stuck(pod: &Whole) -> Option<String> {
    if condition(pod, "PodScheduled") == Some("False") {
        return Some("it cannot be scheduled, since no node has room for it or fits it".to_owned());
    }
    let status = pod.status.as_ref()?;
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    containers.into_iter().find_map(container_stuck)
}

/// A container that crashes goes through waiting, running and ended all the time: what is told of it is
/// how it ended last.
fn container_stuck(status: &ContainerStatus) -> Option<String> {
    if status.ready {
        return None;
    }
    let state = status.state.as_ref();
    let waits_for = state
        .and_then(|s| s.waiting.as_ref())
        .and_then(|w| w.reason.as_deref());
    if let Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") =
        waits_for
    {
        return Some(format!("the image {} cannot be pulled", status.image));
    }
    let ended = state.and_then(|s| s.terminated.as_ref());
    let ended = ended.or_else(|| {
        status
            .last_state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
    });
    if let Some(ended) =
        ended.filter(|_| status.restart_count > 0 || waits_for == Some("CrashLoopBackOff"))
    {
        return Some(format!(
            "container {} keeps ending with exit code {}; see its log",
            status.name, ended.exit_code
        ));
    }
    match waits_for {
        None | Some("ContainerCreating" | "PodInitializing") => None,
        Some(reason) => Some(format!("container {} waits: {reason}", status.name)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: &Value, status: &Value) -> Pod {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        Pod::from(serde_json::from_value::<Whole>(pod).unwrap())
    }

    #[test]
    fn the_ports_of_a_pod_are_those_that_are_probed_and_declared_but_the_runtimes() {
        let runtime = json!({"name": "runtime", "ports": [{"containerPort": 8100}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": 8100}}});
        let mut engine = json!({"name": "engine", "ports": [{"containerPort": 1234}, {"name": "web", "containerPort": 8000}]});
        let ports =
            |engine: &Value| pod(&json!({"containers": [runtime, engine]}), &json!({})).ports;
        assert_eq!(ports(&engine), [1234, 8000]);
        engine["readinessProbe"] = json!({"httpGet": {"port": "web"}});
        assert_eq!(ports(&engine), [1234, 8000]);
        engine["readinessProbe"] = json!({"tcpSocket": {"port": 8001}});
        assert_eq!(ports(&engine), [1234, 8000, 8001]);
        assert_eq!(
            ports(&json!({"name": "engine"})),
            Vec::<u16>::new(),
            "nothing shows it"
        );
    }

    #[test]
    fn what_keeps_a_pod_from_running_is_told_in_steady_words() {
        let stuck = |status: Value| pod(&json!({"containers": []}), &status).stuck;
        let container = |state: Value, restarts: i32| {
            json!({"containerStatuses": [{"name": "epp", "image": "i:1", "imageID": "", "ready": false,
                "restartCount": restarts, "state": state,
                "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}}}]})
        };
        for reason in ["ErrImagePull", "ImagePullBackOff"] {
            let told = stuck(container(json!({"waiting": {"reason": reason}}), 0)).unwrap();
            assert_eq!(told, "the image i:1 cannot be pulled");
        }
        let crashing = [
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}),
            json!({"running": {}}),
            json!({"terminated": {"exitCode": 2}}),
        ];
        for state in crashing {
            let told = stuck(container(state, 3)).unwrap();
            assert_eq!(
                told,
                "container epp keeps ending with exit code 2; see its log"
            );
        }
        assert_eq!(
            stuck(container(
                json!({"waiting": {"reason": "ContainerCreating"}}),
                0
            )),
            None
        );
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]});
        assert!(stuck(unscheduled).unwrap().contains("scheduled"));
    }
}
