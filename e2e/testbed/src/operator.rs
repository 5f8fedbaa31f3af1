//! The operator as its users install it: the manifests of `config/`, and a Pod that the kubelet runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::process::Command;

use crate::error::{Context as _, Error, Result};
use crate::process::output;
use crate::{TestBed, is_ready};

/// The namespace that the operator runs in.
pub const OPERATOR_NAMESPACE: &str = "kthena-bridge-system";
/// The name of its Deployment, its container, its ServiceAccount and its ClusterRole.
pub const OPERATOR: &str = "kthena-bridge";
/// The file in its ConfigMap.
const CONFIGURATION: &str = "config.yaml";
const LIMIT: Duration = Duration::from_secs(30);

/// The folder of the manifests for kustomize.
pub fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

/// The manifests of a folder, put together.
pub async fn kustomize(parts: &Path, folder: &Path) -> Result<String> {
    let mut command = Command::new(parts.join("bin/kubectl"));
    output(command.arg("kustomize").arg(folder)).await
}

impl TestBed {
    /// Installs the operator and waits until it is ready.
    pub async fn install_operator(&self) -> Result<()> {
        let manifests = kustomize(self.parts(), &config()).await?;
        self.apply("", &manifests).await?;
        self.scale_operator(1).await
    }

    /// The operator's configuration, in its ConfigMap.
    pub async fn operator_configuration(&self) -> Result<String> {
        let found = self.configuration_api()?.get(OPERATOR).await;
        let map = found.context(|| format!("getting ConfigMap {OPERATOR}"))?;
        let text = map.data.and_then(|mut data| data.remove(CONFIGURATION));
        text.ok_or_else(|| Error::Other(format!("ConfigMap {OPERATOR} has no {CONFIGURATION}")))
    }

    /// Changes the operator's configuration in its ConfigMap, and nothing else.
    pub async fn configure_operator(&self, config: &str) -> Result<()> {
        let data = Patch::Merge(json!({"data": {CONFIGURATION: config}}));
        let api = self.configuration_api()?;
        let patched = api.patch(OPERATOR, &PatchParams::default(), &data).await;
        patched
            .context(|| format!("patching ConfigMap {OPERATOR}"))
            .map(drop)
    }

    fn configuration_api(&self) -> Result<Api<ConfigMap>> {
        Ok(Api::namespaced(self.client()?, OPERATOR_NAMESPACE))
    }

    /// Starts or stops the operator and waits until it is ready, or gone.
    pub async fn scale_operator(&self, replicas: i32) -> Result<()> {
        let client = self.client()?;
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
        let patch = json!({"spec": {"replicas": replicas}});
        deployments
            .patch(OPERATOR, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .context(|| format!("scaling the operator to {replicas}"))?;
        let pods: Api<Pod> = Api::namespaced(client, OPERATOR_NAMESPACE);
        let what = format!("{replicas} pods of the operator are ready, and there are no others");
        let waited = self.wait_for(&what, LIMIT, async || {
            let params = ListParams::default().labels("app.kubernetes.io/name=kthena-bridge");
            let found = pods.list(&params).await.map_err(|e| e.to_string())?.items;
            let ready = found.iter().filter(|pod| is_ready(pod)).count();
            let as_wanted = usize::try_from(replicas)
                .is_ok_and(|wanted| ready == wanted && found.len() == wanted);
            let statuses = || {
                found
                    .iter()
                    .map(|pod| format!("{:?}", pod.status))
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            if as_wanted { Ok(()) } else { Err(statuses()) }
        });
        waited
            .await
            .map_err(|e| Error::Other(format!("{e}\n{}", self.tails(OPERATOR_NAMESPACE, 20))))
    }
}
