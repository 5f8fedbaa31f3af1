//! Pods.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use crate::TestBed;

impl TestBed {
    /// The pods whose names begin with this name and a hyphen: those of the Deployment of the name, and others
    /// that are called like it.
    pub async fn pods_of(&self, namespace: &str, name: &str) -> Result<Vec<Pod>, String> {
        let client = self.client().map_err(|e| e.to_string())?;
        let all: Api<Pod> = Api::namespaced(client, namespace);
        let mut found = all
            .list(&ListParams::default())
            .await
            .map_err(|e| e.to_string())?
            .items;
        let start = format!("{name}-");
        found.retain(|pod| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            name.starts_with(&start)
        });
        Ok(found)
    }
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
