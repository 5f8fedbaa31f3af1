//! The loop over all pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::PostParams,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    Error,
    config_maps::{self, Changes},
    images::ImageMap,
    network::Network,
    node,
    pod::{self, Seen},
};

/// What a kubelet needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of its Node.
    pub node_name: String,
    /// The bridge that pods are connected to.
    pub bridge: String,
    /// The bridge's own address, which pods have as their default route and as their host's address.
    pub address: Ipv4Addr,
    /// The prefix length of the bridge's network.
    pub prefix: u8,
    /// The first and the last address for pods.
    pub pod_addresses: (Ipv4Addr, Ipv4Addr),
    /// A folder for volumes and logs.
    pub dir: PathBuf,
    /// Which binaries stand for which images.
    pub images: Vec<ImageMap>,
    /// Where pods find the API server.
    pub api_server: (Ipv4Addr, u16),
    /// The longest time that a container gets to end by itself.
    pub max_grace: Duration,
}

/// Runs the kubelet until `shutdown`. All containers are killed then.
///
/// Must run on threads that live as long as it does: containers are killed with the thread that started
/// them.
pub async fn run(
    client: Client,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    std::fs::create_dir_all(&config.dir).map_err(|source| Error::Io {
        path: config.dir.clone(),
        source,
    })?;
    let config = Arc::new(config);
    let network = Network::new(
        config.bridge.clone(),
        config.address,
        config.prefix,
        config.pod_addresses,
    );
    network.remove_leftovers().await;
    node::register(client.clone(), &config.node_name, config.address).await?;

    let mut kubelet = Kubelet {
        client,
        config,
        network: Arc::new(network),
        pods: BTreeMap::new(),
        tasks: JoinSet::new(),
        config_maps: config_maps::changes(),
    };
    kubelet.tasks.spawn(config_maps::follow(
        kubelet.client.clone(),
        kubelet.config_maps.clone(),
    ));
    let api: Api<Pod> = Api::all(kubelet.client.clone());
    let mut events = watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed();
    let mut listed = BTreeSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(_) = kubelet.tasks.join_next() => {}
            event = events.next() => match event {
                Some(Ok(event)) => kubelet.handle(event, &mut listed),
                Some(Err(error)) => tracing::warn!(%error, "watching pods"),
                None => return Ok(()),
            }
        }
    }
}

struct Kubelet {
    client: Client,
    config: Arc<Config>,
    network: Arc<Network>,
    /// The pods on this node, by uid.
    pods: BTreeMap<String, watch::Sender<Seen>>,
    tasks: JoinSet<()>,
    config_maps: Changes,
}

impl Kubelet {
    /// `listed` collects the uids of a list, to find out afterwards which pods are gone.
    fn handle(&mut self, event: Event<Pod>, listed: &mut BTreeSet<String>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.extend(pod.uid());
                self.see(pod);
            }
            Event::InitDone => {
                let gone: Vec<String> = self
                    .pods
                    .keys()
                    .filter(|uid| !listed.contains(*uid))
                    .cloned()
                    .collect();
                for uid in gone {
                    self.forget(&uid);
                }
            }
            Event::Apply(pod) => self.see(pod),
            Event::Delete(pod) => self.forget(&pod.uid().unwrap_or_default()),
        }
    }

    fn forget(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            pod.send_replace(Seen::Gone);
        }
    }

    fn see(&mut self, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if let Some(known) = self.pods.get(&uid) {
            known.send_replace(Seen::Pod(Box::new(pod)));
        } else if node == Some(&self.config.node_name) {
            let (sender, updates) = watch::channel(Seen::Pod(Box::new(pod.clone())));
            self.pods.insert(uid, sender);
            self.tasks.spawn(pod::run(
                self.config.clone(),
                self.client.clone(),
                self.network.clone(),
                pod,
                updates,
                self.config_maps.subscribe(),
            ));
        } else if node.is_none() && pod.metadata.deletion_timestamp.is_none() {
            self.tasks.spawn(bind(
                self.client.clone(),
                pod,
                self.config.node_name.clone(),
            ));
        }
    }
}

/// Binds a pending pod, as a scheduler would.
async fn bind(client: Client, pod: Pod, node: String) {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": namespace, "uid": pod.uid()},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let bound = api
        .create_subresource::<_, serde_json::Value>(
            "binding",
            &name,
            &PostParams::default(),
            &binding,
        )
        .await;
    match bound {
        // Another event of the same pod was quicker, or it is gone.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
        Err(error) => tracing::warn!(namespace, name, %error, "binding"),
        Ok(_) => {}
    }
}
