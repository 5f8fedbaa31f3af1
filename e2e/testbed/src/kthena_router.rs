//! Kthena's own router, as a second gateway: the real one, in a Pod.
//!
//! It is one process for all Gateways of its class, and opens the ports of their listeners on its pod's
//! address. It writes no status, so when a Gateway is served can only be seen by asking it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use crate::error::{Error, Result};
use crate::{Namespace, TestBed, is_ready};

/// The namespace that the router runs in.
pub const KTHENA_ROUTER_NAMESPACE: &str = "kthena-router";
const MANIFESTS: &str = include_str!("kthena-router.yaml");
/// A Gateway that admits HTTPRoutes of its own namespace.
const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: NAME}
spec:
  gatewayClassName: kthena-router
  listeners: [{name: http, port: PORT, protocol: HTTP}]
";
const LIMIT: Duration = Duration::from_secs(30);

impl TestBed {
    /// Installs Kthena's router, waits until it is ready, and gives the address of its pod.
    pub async fn install_kthena_router(&self) -> Result<Ipv4Addr> {
        self.apply("", MANIFESTS).await?;
        self.kthena_router_address().await
    }

    /// The address of the router's pod, once it is ready.
    pub async fn kthena_router_address(&self) -> Result<Ipv4Addr> {
        let pods: Api<Pod> = Api::namespaced(self.client()?, KTHENA_ROUTER_NAMESPACE);
        let waited = self.wait_for("Kthena's router is ready", LIMIT, async || {
            let params = ListParams::default().labels("app.kubernetes.io/name=kthena-router");
            let found = pods.list(&params).await.map_err(|e| e.to_string())?.items;
            let ready = found.iter().filter(|pod| is_ready(pod));
            let statuses: Vec<_> = ready.filter_map(|pod| pod.status.as_ref()).collect();
            let address = statuses
                .iter()
                .find_map(|status| status.pod_ip.as_ref()?.parse().ok());
            address.ok_or_else(|| {
                let all = found.iter().map(|pod| format!("{:?}", pod.status));
                all.collect::<Vec<_>>().join("\n")
            })
        });
        let with_logs =
            |e| Error::Other(format!("{e}\n{}", self.tails(KTHENA_ROUTER_NAMESPACE, 20)));
        waited.await.map_err(with_logs)
    }
}

impl Namespace<'_> {
    /// Makes a Gateway of the router's, and gives where it listens, soon. [`TestBed::install_kthena_router`]
    /// comes before.
    pub async fn kthena_router_gateway(&self, name: &str) -> Result<SocketAddrV4> {
        // Of two Gateways with one port and no host names, only one gets requests.
        static PORT: AtomicU16 = AtomicU16::new(8090);
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        let gateway = GATEWAY
            .replace("NAME", name)
            .replace("PORT", &port.to_string());
        self.apply(&gateway).await?;
        let address = self.bed().kthena_router_address().await?;
        Ok(SocketAddrV4::new(address, port))
    }
}
