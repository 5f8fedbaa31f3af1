//! Envoy's configuration, as resources of its xDS APIs in files.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/configuration/overview/xds_api>

mod action;
mod bootstrap;
mod cluster;
mod endpoint;
mod listener;
mod route;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::ServicePort;
use serde_json::{Value, json};

use crate::{
    api::InferencePool,
    attach::AttachedRoute,
    snapshot::{Key, Snapshot},
};
pub(crate) use bootstrap::bootstrap;

/// What of the machine Envoy's configuration names.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the xDS files.
    pub dir: PathBuf,
    /// The certificates that a TLS connection is validated against.
    pub system_ca: PathBuf,
}

/// The resources of Envoy, by name.
///
/// A filesystem subscription to a route configuration or to endpoints takes exactly one resource, so those
/// are a file each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Xds {
    /// LDS
    pub listeners: BTreeMap<String, Value>,
    /// RDS
    pub routes: BTreeMap<String, Value>,
    /// CDS
    pub clusters: BTreeMap<String, Value>,
    /// EDS
    pub endpoints: BTreeMap<String, Value>,
}

impl Xds {
    /// The files in the order in which to write them: what a resource refers to comes before it.
    pub fn files(&self, dir: &Path) -> Vec<(PathBuf, Value)> {
        let one_each = |folder: &'static str, resources: &BTreeMap<String, Value>| -> Vec<_> {
            resources
                .iter()
                .map(|(name, resource)| (path(dir, folder, name), response([resource])))
                .collect()
        };
        let mut files = one_each("eds", &self.endpoints);
        files.push((dir.join("cds.json"), response(self.clusters.values())));
        files.extend(one_each("rds", &self.routes));
        files.push((dir.join("lds.json"), response(self.listeners.values())));
        files
    }
}

pub(crate) fn build(snapshot: &Snapshot, routes: &[AttachedRoute<'_>], options: &Options) -> Xds {
    let mut xds = Xds::default();
    listener::add(&mut xds, snapshot, routes, options);
    xds
}

fn response<'a>(resources: impl IntoIterator<Item = &'a Value>) -> Value {
    json!({"resources": resources.into_iter().collect::<Vec<_>>()})
}

fn path(dir: &Path, folder: &str, name: &str) -> PathBuf {
    dir.join(folder).join(format!("{name}.json"))
}

fn config_source(path: &Path) -> Value {
    json!({"resource_api_version": "V3", "path_config_source": {"path": path}})
}

/// The names of clusters. An underscore can't be in a Kubernetes name, so these never clash.
fn pool_cluster(pool: &Key) -> String {
    format!("pool_{}_{}", pool.namespace, pool.name)
}

fn picker_cluster(pool: &Key, pool_spec: &InferencePool) -> Option<String> {
    let picker = pool_spec.spec.endpoint_picker_ref.as_ref()?;
    Some(format!(
        "picker_{}_{}_{}",
        pool.namespace, picker.name, picker.port.number
    ))
}

fn service_cluster(service: &Key, port: &ServicePort) -> String {
    format!(
        "service_{}_{}_{}",
        service.namespace, service.name, port.port
    )
}
