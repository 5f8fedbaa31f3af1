//! One pod, from its arrival on the node to its end.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodStatus};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use tokio::{
    sync::{broadcast, watch},
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    container::{self, PodContext, RETRY, Report},
    kubelet::Config,
    network::{Network, PodNetwork},
    status::{self, State},
    volumes::{Source, Volumes},
};

/// What the API server says of a pod.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Pod(Box<Pod>),
    /// It was deleted, by force or by this kubelet.
    Gone,
}

/// The last word on a pod.
type Updates = watch::Receiver<Seen>;

/// Runs a pod that is bound to this node.
pub(crate) async fn run(
    config: Arc<Config>,
    client: Client,
    network: Arc<Network>,
    pod: Pod,
    updates: Updates,
    config_maps: broadcast::Receiver<ConfigMap>,
) {
    let api = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let views =
        containers.map(|c| status::Container::new(&c.name, c.image.as_deref().unwrap_or_default()));
    let mut worker = Worker {
        api,
        views: Arc::new(watch::Sender::new(views.collect())),
        started: Timestamp::now(),
        address: None,
        written: None,
        config,
        updates,
        config_maps,
        pod,
    };
    let uid = worker.uid();
    let Some(pod_network) = worker.until_stopped(|| network.add(&uid)).await else {
        return worker.delete().await;
    };
    worker.address = Some(pod_network.address);
    worker.live(client, pod_network.clone()).await;
    network.remove(&pod_network).await;
    // Its mounts vanished with the containers' mount namespaces.
    let _ = std::fs::remove_dir_all(worker.dir());
    worker.delete().await;
}

struct Worker {
    config: Arc<Config>,
    api: Api<Pod>,
    pod: Pod,
    updates: Updates,
    config_maps: broadcast::Receiver<ConfigMap>,
    views: Arc<watch::Sender<Vec<status::Container>>>,
    started: Timestamp,
    address: Option<Ipv4Addr>,
    /// The status written last.
    written: Option<PodStatus>,
}

impl Worker {
    /// Prepares the volumes, runs the containers, and returns when all have been stopped.
    async fn live(&mut self, client: Client, network: PodNetwork) {
        self.write_status().await;
        let source = Source::new(client.clone(), &self.pod.namespace().unwrap_or_default());
        let (pod, dir) = (self.pod_with_status(), self.dir());
        let folder = dir.join("volumes");
        let Some(volumes) = self
            .until_stopped(|| Volumes::prepare(&pod, &folder, &source))
            .await
        else {
            return;
        };
        let refresh = volumes.refresh_after();
        let cx = Arc::new(PodContext {
            config: self.config.clone(),
            pod: pod.clone(),
            network,
            volumes,
            source,
            dir,
        });

        let stop = watch::Sender::new(None);
        let mut running = JoinSet::new();
        for (index, container) in self
            .pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .enumerate()
        {
            let report = Report {
                all: self.views.clone(),
                index,
            };
            running.spawn(container::run(
                cx.clone(),
                container.clone(),
                report,
                stop.subscribe(),
            ));
        }
        let mut views = self.views.subscribe();
        let mut refresh_at = refresh.map(|after| Instant::now() + after);
        loop {
            self.write_status().await;
            tokio::select! {
                _ = views.changed() => {}
                changed = self.updates.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                changed = self.config_maps.recv() => {
                    if let Err(said) = cx.volumes.update(changed, &cx.source).await {
                        tracing::warn!(pod = self.pod.name_any(), said, "updating a volume");
                    }
                }
                () = until(refresh_at) => {
                    for token in &cx.volumes.tokens {
                        if let Err(said) = token.write(&cx.pod, &cx.source).await {
                            tracing::warn!(pod = self.pod.name_any(), said, "refreshing a token");
                        }
                    }
                    refresh_at = refresh.map(|after| Instant::now() + after);
                }
            }
            if let Some(grace) = self.look() {
                stop.send_replace(Some(Instant::now() + grace));
                break;
            }
        }
        // The pod may be deleted by force while its containers are ending.
        loop {
            tokio::select! {
                ended = running.join_next() => if ended.is_none() { break },
                changed = self.updates.changed() => {
                    if changed.is_err() || matches!(*self.updates.borrow(), Seen::Gone) {
                        running.shutdown().await;
                        break;
                    }
                }
            }
        }
        self.write_status().await;
    }

    /// Tries until it succeeds; nothing if the pod is deleted before.
    async fn until_stopped<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
        &mut self,
        attempt: impl Fn() -> F,
    ) -> Option<T> {
        loop {
            if self.look().is_some() {
                return None;
            }
            match attempt().await {
                Ok(value) => return Some(value),
                Err(error) => {
                    let message = error.to_string();
                    tracing::debug!(pod = self.pod.name_any(), message, "not ready to start");
                    self.views.send_modify(|views| {
                        for view in views {
                            view.state = State::Waiting {
                                reason: "ContainerCreating",
                                message: Some(message.clone()),
                            };
                        }
                    });
                    self.write_status().await;
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Takes the last word on the pod. If it is to end: how long its containers may take.
    fn look(&mut self) -> Option<Duration> {
        match &*self.updates.borrow_and_update() {
            Seen::Gone => return Some(Duration::ZERO),
            Seen::Pod(pod) => self.pod = (**pod).clone(),
        }
        self.pod.metadata.deletion_timestamp.as_ref()?;
        let asked = self
            .pod
            .metadata
            .deletion_grace_period_seconds
            .and_then(|s| u64::try_from(s).ok());
        Some(Duration::from_secs(asked.unwrap_or(30)).min(self.config.max_grace))
    }

    fn uid(&self) -> String {
        self.pod.uid().unwrap_or_default()
    }

    fn dir(&self) -> std::path::PathBuf {
        self.config.dir.join("pods").join(self.uid())
    }

    fn pod_with_status(&self) -> Pod {
        Pod {
            status: Some(self.status()),
            ..self.pod.clone()
        }
    }

    fn status(&self) -> PodStatus {
        let views = self.views.borrow();
        status::compute(
            &self.pod,
            &views,
            self.address,
            self.config.address,
            self.started,
            Timestamp::now(),
        )
    }

    /// Writes the status if it differs from the one written last.
    async fn write_status(&mut self) {
        // Conditions keep the times that were written, whether or not the watch has brought them back.
        if let Some(written) = &self.written {
            self.pod.status = Some(written.clone());
        }
        let status = self.status();
        if self.written.as_ref() == Some(&status) {
            return;
        }
        let patch = serde_json::json!({"metadata": {"uid": self.pod.uid()}, "status": status});
        match self
            .api
            .patch_status(
                &self.pod.name_any(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await
        {
            Ok(pod) => self.written = pod.status.map(|_| status),
            Err(error) => {
                tracing::debug!(pod = self.pod.name_any(), %error, "writing the status");
                self.written = None;
            }
        }
    }

    /// Removes the object of a pod whose containers have ended.
    async fn delete(&self) {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: self.pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api.delete(&self.pod.name_any(), &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => tracing::warn!(pod = self.pod.name_any(), %error, "deleting"),
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
