//! One container of a pod over all its restarts.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    env::{self, Env},
    images,
    kubelet::Config,
    launch::{Ended, Handle, Launch, PATH, Process},
    log_path,
    network::PodNetwork,
    probe::{self, Streak},
    status::{self, State, Terminated},
    volumes::{Source, Volumes},
};

const MAX_BACK_OFF: Duration = Duration::from_secs(10);
/// A run of this length ends a crash loop.
const LONG_RUN: Duration = Duration::from_secs(30);
/// Between two attempts at something that another object may mend, such as a missing ConfigMap.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// What the containers of a pod share.
pub(crate) struct PodContext {
    pub(crate) config: Arc<Config>,
    /// With the address in its status, for the downward API.
    pub(crate) pod: Pod,
    pub(crate) network: PodNetwork,
    pub(crate) volumes: Volumes,
    pub(crate) source: Source,
    pub(crate) dir: PathBuf,
}

/// Where a container reports what it is doing.
pub(crate) struct Report {
    pub(crate) all: Arc<watch::Sender<Vec<status::Container>>>,
    pub(crate) index: usize,
}

impl Report {
    fn update(&self, change: impl FnOnce(&mut status::Container)) {
        self.all.send_if_modified(|all| {
            let Some(container) = all.get_mut(self.index) else {
                return false;
            };
            let before = container.clone();
            change(container);
            *container != before
        });
    }

    fn waiting(&self, reason: &'static str, message: Option<String>) {
        self.update(|c| c.state = State::Waiting { reason, message });
    }
}

/// When the containers of a pod must have ended; nothing while they are to run.
pub(crate) type Stop = watch::Receiver<Option<Instant>>;

async fn stopped(stop: &mut Stop) -> Instant {
    match stop
        .wait_for(Option::is_some)
        .await
        .map(|deadline| *deadline)
    {
        Ok(Some(deadline)) => deadline,
        // The pod's task is gone.
        _ => Instant::now(),
    }
}

/// Why a container can't be started.
enum Trouble {
    Image,
    Config(String),
}

/// Runs a container until it has ended for good or the pod is stopped.
pub(crate) async fn run(cx: Arc<PodContext>, container: Container, report: Report, mut stop: Stop) {
    let mut back_off = Duration::ZERO;
    loop {
        let launch = match launch(&cx, &container).await {
            Ok(launch) => launch,
            Err(trouble) => {
                let wait = match trouble {
                    Trouble::Image => image_trouble(&container, &report),
                    Trouble::Config(message) => {
                        report.waiting("CreateContainerConfigError", Some(message));
                        RETRY
                    }
                };
                tokio::select! {
                    () = sleep(wait) => continue,
                    _ = stopped(&mut stop) => return,
                }
            }
        };
        let began = (Instant::now(), Timestamp::now());
        let ended = match launch.start() {
            Ok(process) => {
                report.update(|c| {
                    c.state = State::Running { since: began.1 };
                    (c.ready, c.started) = (false, false);
                });
                run_once(&cx, &container, process, &report, &mut stop).await
            }
            Err(error) => {
                report.waiting("RunContainerError", Some(error.to_string()));
                Ended {
                    exit_code: 128,
                    signal: None,
                }
            }
        };
        let end = Terminated {
            ended,
            started: began.1,
            finished: Timestamp::now(),
        };
        report.update(|c| {
            (c.ready, c.started) = (false, false);
            c.state = State::Terminated(end);
        });
        let policy = cx
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref());
        if stop.borrow().is_some() || !status::restarts(policy, ended) {
            return;
        }
        if began.0.elapsed() >= LONG_RUN {
            back_off = Duration::ZERO;
        }
        if !back_off.is_zero() {
            let message = format!(
                "back-off {back_off:?} restarting failed container={}",
                container.name
            );
            report.update(|c| {
                c.last = Some(end);
                c.state = State::Waiting {
                    reason: "CrashLoopBackOff",
                    message: Some(message),
                };
            });
            tokio::select! {
                () = sleep(back_off) => {}
                _ = stopped(&mut stop) => return,
            }
        }
        back_off = (back_off * 2).clamp(Duration::from_secs(1), MAX_BACK_OFF);
        report.update(|c| {
            c.last = Some(end);
            c.restarts += 1;
        });
    }
}

/// As a kubelet reports it: the error at first, then that it is holding back. Gives the pause.
fn image_trouble(container: &Container, report: &Report) -> Duration {
    let image = container.image.as_deref().unwrap_or_default();
    let first = report.all.borrow().get(report.index).is_some_and(|c| {
        !matches!(
            c.state,
            State::Waiting {
                reason: "ErrImagePull" | "ImagePullBackOff",
                ..
            }
        )
    });
    if first {
        let message = format!("failed to pull image {image:?}: no rule of this kubelet knows it");
        report.waiting("ErrImagePull", Some(message));
        return Duration::from_secs(1);
    }
    report.waiting(
        "ImagePullBackOff",
        Some(format!("Back-off pulling image {image:?}")),
    );
    MAX_BACK_OFF
}

/// From the start of a process to its end, be it by itself, by a probe or because the pod is stopped.
async fn run_once(
    cx: &PodContext,
    container: &Container,
    mut process: Process,
    report: &Report,
    stop: &mut Stop,
) -> Ended {
    let handle = process.handle();
    tokio::select! {
        ended = process.wait() => ended,
        said = failed_health(cx, container, &handle, report) => {
            tracing::info!(container = container.name, said, "restarting");
            report.update(|c| c.ready = false);
            end(&mut process, Instant::now() + cx.config.max_grace, stop).await
        }
        deadline = stopped(stop) => end(&mut process, deadline, stop).await,
    }
}

/// Ends a process, gently until the deadline. The deadline may come nearer meanwhile.
async fn end(process: &mut Process, mut deadline: Instant, stop: &mut Stop) -> Ended {
    process.terminate().await;
    loop {
        tokio::select! {
            ended = process.wait() => return ended,
            () = sleep_until(deadline) => return process.kill().await,
            changed = stop.changed() => {
                let told = *stop.borrow();
                deadline = told.filter(|_| changed.is_ok()).unwrap_or_else(Instant::now).min(deadline);
            }
        }
    }
}

/// Runs the probes. Returns, with a message, when the container must be restarted.
async fn failed_health(
    cx: &PodContext,
    container: &Container,
    process: &Handle,
    report: &Report,
) -> String {
    let look = |probe: Probe| async move {
        probe::look(&probe, container, cx.network.address, process).await
    };
    if let Some(startup) = &container.startup_probe
        && let Err(said) = started(startup, look).await
    {
        return format!("startup probe: {said}");
    }
    report.update(|c| {
        c.started = true;
        c.ready = container.readiness_probe.is_none();
    });
    let readiness = async {
        let Some(probe) = &container.readiness_probe else {
            return std::future::pending().await;
        };
        follow(probe, look, |good, said| {
            tracing::debug!(container = container.name, good, ?said, "readiness");
            report.update(|c| c.ready = good);
            None
        })
        .await
    };
    let liveness = async {
        let Some(probe) = &container.liveness_probe else {
            return std::future::pending().await;
        };
        follow(probe, look, |good, said| {
            (!good).then(|| format!("liveness probe: {}", said.unwrap_or_default()))
        })
        .await
    };
    tokio::select! {
        said = readiness => said,
        said = liveness => said,
    }
}

/// Waits for a startup probe to succeed, or to fail too often.
async fn started<F: Future<Output = Result<(), String>>>(
    probe: &Probe,
    look: impl Fn(Probe) -> F,
) -> Result<(), String> {
    let verdict = follow(probe, look, |good, said| {
        Some(if good {
            Ok(())
        } else {
            Err(said.unwrap_or_default())
        })
    });
    verdict.await
}

/// Looks again and again, and gives what `judge` makes of a verdict, once it makes anything of one.
async fn follow<T, F: Future<Output = Result<(), String>>>(
    probe: &Probe,
    look: impl Fn(Probe) -> F,
    judge: impl Fn(bool, Option<String>) -> Option<T>,
) -> T {
    let mut streak = Streak::new(probe);
    let mut succeeded = false;
    sleep(probe::initial_delay(probe)).await;
    loop {
        let said = look(probe.clone()).await.err();
        if let Some(good) = streak.add(said.is_none()) {
            succeeded |= good;
            if let Some(outcome) = judge(good, said) {
                return outcome;
            }
        }
        sleep(probe::period(probe, succeeded)).await;
    }
}

/// Everything that a run of the container is made from.
async fn launch(cx: &PodContext, container: &Container) -> Result<Launch, Trouble> {
    let image = container.image.as_deref().unwrap_or_default();
    let pod_name = cx.pod.metadata.name.as_deref().unwrap_or_default();
    let mut base = Env::default();
    let (host, port) = cx.config.api_server;
    base.set("PATH", PATH);
    base.set("HOSTNAME", pod_name);
    base.set("KUBERNETES_SERVICE_HOST", host.to_string());
    base.set("KUBERNETES_SERVICE_PORT", port.to_string());
    base.set("KUBERNETES_SERVICE_PORT_HTTPS", port.to_string());
    let mut env = env::of(container, &cx.pod, base, &cx.source)
        .await
        .map_err(Trouble::Config)?;

    let expand = |words: &Option<Vec<String>>| -> Vec<String> {
        words
            .iter()
            .flatten()
            .map(|word| env.expand(word))
            .collect()
    };
    let (command, args) = (expand(&container.command), expand(&container.args));
    let (map, arguments) =
        images::resolve(&cx.config.images, image, &container.name, &command, &args)
            .ok_or(Trouble::Image)?;
    if map.sets_pod_name && env.get("POD_NAME").is_none() {
        env.set("POD_NAME", pod_name);
    }
    if !map.binary.exists() {
        return Err(Trouble::Config(format!(
            "the binary {} does not exist",
            map.binary.display()
        )));
    }

    let security = container.security_context.as_ref();
    let namespace = cx.pod.metadata.namespace.as_deref().unwrap_or_default();
    Ok(Launch {
        network_namespace: cx.network.namespace.clone(),
        root: cx.dir.join("roots").join(&container.name),
        hostname: pod_name.to_owned(),
        read_only_root: security.and_then(|s| s.read_only_root_filesystem) == Some(true),
        working_dir: container
            .working_dir
            .clone()
            .filter(|dir| !dir.is_empty())
            .unwrap_or_else(|| "/".to_owned()),
        mounts: cx.volumes.mounts(container).map_err(Trouble::Config)?,
        binary: map.binary.clone(),
        arguments,
        env,
        log: log_path(&cx.config.dir, namespace, pod_name, &container.name),
    })
}
