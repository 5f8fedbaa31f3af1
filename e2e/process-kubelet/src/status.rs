//! The status of a pod, computed from its containers. No clock, no client.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::launch::Ended;

/// One end of a container's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terminated {
    pub(crate) ended: Ended,
    pub(crate) started: Timestamp,
    pub(crate) finished: Timestamp,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waiting {
        reason: &'static str,
        message: Option<String>,
    },
    Running {
        since: Timestamp,
    },
    Terminated(Terminated),
}

/// A container, as far as the status says something about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) state: State,
    pub(crate) last: Option<Terminated>,
    pub(crate) restarts: i32,
    pub(crate) ready: bool,
    pub(crate) started: bool,
}

impl Container {
    pub(crate) fn new(name: &str, image: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            state: State::Waiting {
                reason: "ContainerCreating",
                message: None,
            },
            last: None,
            restarts: 0,
            ready: false,
            started: false,
        }
    }
}

/// Whether a container that has ended so is started again.
pub(crate) fn restarts(policy: Option<&str>, ended: Ended) -> bool {
    match policy {
        Some("Never") => false,
        Some("OnFailure") => ended.exit_code != 0,
        _ => true,
    }
}

/// The status of a pod. `now` dates the conditions that differ from those that the pod has.
pub(crate) fn compute(
    pod: &Pod,
    containers: &[Container],
    address: Option<Ipv4Addr>,
    host: Ipv4Addr,
    started: Timestamp,
    now: Timestamp,
) -> PodStatus {
    let phase = phase(pod, containers);
    let done = phase == "Succeeded" || phase == "Failed";
    let unready: Vec<&str> = containers
        .iter()
        .filter(|c| !c.ready)
        .map(|c| c.name.as_str())
        .collect();
    let (ready, reason, message) = if done {
        ("False", Some("PodCompleted"), None)
    } else if unready.is_empty() {
        ("True", None, None)
    } else {
        let message = format!("containers with unready status: [{}]", unready.join(" "));
        ("False", Some("ContainersNotReady"), Some(message))
    };
    let condition = |type_: &str, status: &str, reason: Option<&str>, message: Option<String>| {
        let before = pod
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .find(|c| c.type_ == type_);
        let since = before
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message,
            last_transition_time: Some(since.unwrap_or(Time(now))),
            ..PodCondition::default()
        }
    };
    let mut conditions = vec![
        condition("PodScheduled", "True", None, None),
        condition("Initialized", "True", None, None),
        condition("ContainersReady", ready, reason, message.clone()),
        condition("Ready", ready, reason, message),
    ];
    // Others have conditions here too, such as DisruptionTarget.
    let known = conditions.len();
    for other in pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
    {
        if conditions[..known]
            .iter()
            .all(|own| own.type_ != other.type_)
        {
            conditions.push(other.clone());
        }
    }
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions),
        container_statuses: Some(containers.iter().map(container_status).collect()),
        init_container_statuses: skipped(pod, started),
        host_ip: Some(host.to_string()),
        host_ips: Some(vec![HostIP {
            ip: host.to_string(),
        }]),
        pod_ip: address.map(|ip| ip.to_string()),
        pod_ips: address.map(|ip| vec![PodIP { ip: ip.to_string() }]),
        start_time: Some(Time(started)),
        ..PodStatus::default()
    }
}

fn phase(pod: &Pod, containers: &[Container]) -> &'static str {
    let policy = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    let never_ran = |c: &Container| matches!(c.state, State::Waiting { .. }) && c.last.is_none();
    let ends: Vec<Ended> = containers
        .iter()
        .filter_map(|c| match c.state {
            State::Terminated(end) => Some(end.ended),
            _ => None,
        })
        .collect();
    let stopping = pod.metadata.deletion_timestamp.is_some();
    if containers.iter().any(never_ran) {
        "Pending"
    } else if ends.len() < containers.len()
        || (!stopping && ends.iter().any(|end| restarts(policy, *end)))
    {
        "Running"
    } else if ends.iter().all(|end| end.exit_code == 0) {
        "Succeeded"
    } else {
        "Failed"
    }
}

fn container_status(container: &Container) -> ContainerStatus {
    let mut state = ContainerState::default();
    match &container.state {
        State::Waiting { reason, message } => {
            state.waiting = Some(ContainerStateWaiting {
                reason: Some((*reason).to_owned()),
                message: message.clone(),
            });
        }
        State::Running { since } => {
            state.running = Some(ContainerStateRunning {
                started_at: Some(Time(*since)),
            });
        }
        State::Terminated(end) => state.terminated = Some(terminated(end)),
    }
    let last = container.last.as_ref().map(|end| ContainerState {
        terminated: Some(terminated(end)),
        ..ContainerState::default()
    });
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone(),
        state: Some(state),
        last_state: last,
        restart_count: container.restarts,
        ready: container.ready,
        started: Some(container.started),
        ..ContainerStatus::default()
    }
}

fn terminated(end: &Terminated) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: end.ended.exit_code,
        signal: end.ended.signal,
        reason: Some(
            if end.ended.exit_code == 0 {
                "Completed"
            } else {
                "Error"
            }
            .to_owned(),
        ),
        started_at: Some(Time(end.started)),
        finished_at: Some(Time(end.finished)),
        ..ContainerStateTerminated::default()
    }
}

/// Init containers are not run; a pod whose status lacked them would never count as initialised.
fn skipped(pod: &Pod, started: Timestamp) -> Option<Vec<ContainerStatus>> {
    let containers = pod.spec.as_ref()?.init_containers.as_ref()?;
    let ended = Terminated {
        ended: Ended {
            exit_code: 0,
            signal: None,
        },
        started,
        finished: started,
    };
    let done = containers.iter().map(|c| {
        let image = c.image.as_deref().unwrap_or_default();
        let state = State::Terminated(ended);
        container_status(&Container {
            state,
            ready: true,
            ..Container::new(&c.name, image)
        })
    });
    Some(done.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn pod(json: serde_json::Value) -> Pod {
        serde_json::from_value(json).unwrap()
    }

    fn end(exit_code: i32) -> Terminated {
        let ended = Ended {
            exit_code,
            signal: None,
        };
        Terminated {
            ended,
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
        }
    }

    fn container(state: State) -> Container {
        Container {
            state,
            ..Container::new("c", "i")
        }
    }

    fn running(ready: bool) -> Container {
        Container {
            ready,
            started: true,
            ..container(State::Running {
                since: Timestamp::UNIX_EPOCH,
            })
        }
    }

    fn of(pod: &Pod, containers: &[Container], now: i64) -> PodStatus {
        let now = Timestamp::from_second(now).unwrap();
        compute(
            pod,
            containers,
            Some(Ipv4Addr::new(10, 0, 1, 1)),
            HOST,
            Timestamp::UNIX_EPOCH,
            now,
        )
    }

    fn phase_of(policy: &str, containers: &[Container]) -> String {
        of(
            &pod(serde_json::json!({"spec": {"containers": [], "restartPolicy": policy}})),
            containers,
            0,
        )
        .phase
        .unwrap()
    }

    #[test]
    fn the_phase_follows_the_containers_and_the_restart_policy() {
        let waiting = container(State::Waiting {
            reason: "ContainerCreating",
            message: None,
        });
        let crashed = Container {
            last: Some(end(1)),
            ..waiting.clone()
        };
        assert_eq!(phase_of("Always", &[waiting, running(true)]), "Pending");
        assert_eq!(phase_of("Always", &[crashed, running(true)]), "Running");
        assert_eq!(
            phase_of("Always", &[container(State::Terminated(end(0)))]),
            "Running"
        );
        assert_eq!(
            phase_of("Never", &[container(State::Terminated(end(0)))]),
            "Succeeded"
        );
        assert_eq!(
            phase_of("OnFailure", &[container(State::Terminated(end(2)))]),
            "Running"
        );
        assert_eq!(
            phase_of("Never", &[container(State::Terminated(end(2)))]),
            "Failed"
        );
    }

    #[test]
    fn a_pod_is_ready_when_all_its_containers_are() {
        let ready = |containers: &[Container]| {
            let status = of(&Pod::default(), containers, 0);
            let ready = status
                .conditions
                .unwrap()
                .into_iter()
                .find(|c| c.type_ == "Ready")
                .unwrap();
            (ready.status, ready.message)
        };
        assert_eq!(ready(&[running(true)]), ("True".to_owned(), None));
        let message = "containers with unready status: [c]".to_owned();
        assert_eq!(
            ready(&[running(true), running(false)]),
            ("False".to_owned(), Some(message))
        );
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let time = |status: &PodStatus| {
            let ready = status
                .conditions
                .iter()
                .flatten()
                .find(|c| c.type_ == "Ready")
                .cloned();
            ready.unwrap().last_transition_time.unwrap().0.as_second()
        };
        let mut pod = Pod::default();
        let first = of(&pod, &[running(true)], 5);
        assert_eq!(time(&first), 5);
        pod.status = Some(first);
        assert_eq!(time(&of(&pod, &[running(true)], 9)), 5);
        assert_eq!(time(&of(&pod, &[running(false)], 9)), 9);
    }

    #[test]
    fn init_containers_are_reported_as_done() {
        let pod =
            pod(serde_json::json!({"spec": {"containers": [], "initContainers": [{"name": "i"}]}}));
        let status = of(&pod, &[running(true)], 0);
        let done = status.init_container_statuses.unwrap().remove(0);
        assert_eq!(
            done.state.unwrap().terminated.unwrap().reason.unwrap(),
            "Completed"
        );
    }
}
