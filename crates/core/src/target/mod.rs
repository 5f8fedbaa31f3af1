//! The Model that is exposed: what says which pods serve it, on which port, under which names, and whether they should.

mod booster;
mod served_name;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;

use kthena_bridge_api::annotation;
use kthena_bridge_api::condition::Reason;
use kthena_bridge_api::kthena::{ModelBooster, ModelServer};
use kube::ResourceExt as _;
use kube::core::ObjectMeta;

use crate::exposure::Exposure;
use crate::observe::{Child, Cluster};
use crate::owner::Owner;
use crate::topology::NotAccepted;

#[cfg(test)]
pub(crate) use booster::leader_pods;
pub(crate) use booster::serving_name;

/// The port that engines serve on where nobody says: Kthena starts every engine up to v1.0.0 there.
const DEFAULT_PORT: u16 = 8000;

/// A kind of Model that can be exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    /// One that Kthena makes all of.
    ModelBooster,
    /// Pods that are there already.
    ModelServer,
}

impl TargetKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::ModelBooster, Self::ModelServer];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ModelBooster => "ModelBooster",
            Self::ModelServer => "ModelServer",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A Model that can be exposed.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// One that Kthena makes all of.
    Booster(Arc<ModelBooster>),
    /// Pods that are there already.
    Server(Arc<ModelServer>),
}

/// An engine, as far as its metrics differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// vLLM, or one with metrics of the same names.
    #[default]
    Vllm,
    /// SGLang.
    SgLang,
}

impl Engine {
    /// As endpoint pickers call it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::SgLang => "sglang",
        }
    }

    /// Flags by which a picker without a configuration for that is told of its metrics.
    pub(crate) fn metrics_flags(self) -> &'static [&'static str] {
        match self {
            Self::Vllm => &[],
            Self::SgLang => &[
                "--total-queued-requests-metric=sglang:num_queue_reqs",
                "--kv-cache-usage-percentage-metric=sglang:token_usage",
                "--cache-info-metric=sglang:cache_config_info",
            ],
        }
    }
}

/// What serves a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    /// The labels of its pods.
    pub(crate) selector: BTreeMap<String, String>,
    /// The port that they serve on.
    pub(crate) port: u16,
    /// The names under which they serve it, the first one preferred; empty when not known.
    pub(crate) served_names: Vec<String>,
    /// What they run.
    pub(crate) engine: Engine,
}

impl Target {
    /// Its kind.
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::Booster(_) => TargetKind::ModelBooster,
            Self::Server(_) => TargetKind::ModelServer,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Booster(model) => &model.metadata,
            Self::Server(server) => &server.metadata,
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        match self {
            Self::Booster(model) => model.name_any(),
            Self::Server(server) => server.name_any(),
        }
    }

    /// Whether it says itself that it serves. A ModelServer says nothing: its pods do.
    pub fn is_active(&self) -> bool {
        match self {
            Self::Booster(model) => has_condition(model, "Active").is_some(),
            Self::Server(_) => true,
        }
    }

    /// What Kthena reports where it failed. Kthena never clears `Failed`, so it counts only while the Model is not
    /// active.
    pub(crate) fn failure(&self) -> Option<&str> {
        match self {
            Self::Booster(model) if !self.is_active() => has_condition(model, "Failed"),
            _ => None,
        }
    }

    /// What serves it. `pool` is the owner's pool as it is.
    ///
    /// # Errors
    /// When its pods cannot be chosen by one selector, or speak what the Gateway does not.
    pub(crate) fn workload(
        &self,
        exposure: &Exposure,
        owner: &Owner,
        pool: Option<&Child>,
        cluster: &impl Cluster,
    ) -> Result<Workload, NotAccepted> {
        match self {
            Self::Booster(model) => booster::workload(model, exposure, owner, pool, cluster),
            Self::Server(server) => server::workload(server, exposure, owner, pool, cluster),
        }
    }

    /// The names under which Kthena would have it served.
    pub(crate) fn names_to_be(&self) -> Vec<String> {
        let Self::Booster(model) = self else {
            return Vec::new();
        };
        let backends: Vec<_> = model.spec.backends().collect();
        match backends.as_slice() {
            [one] => served_name::of_backend(one),
            _ => Vec::new(),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let namespace = self.metadata().namespace.as_deref().unwrap_or_default();
        write!(f, "{} {namespace}/{}", self.kind().as_str(), self.name())
    }
}

/// The message of a condition that is true.
fn has_condition<'a>(model: &'a ModelBooster, type_: &str) -> Option<&'a str> {
    let mut conditions = model.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.find(|c| c.type_ == type_ && c.status == "True")?;
    Some(&found.message)
}

fn unsupported(message: String) -> NotAccepted {
    NotAccepted {
        reason: Reason::UnsupportedTopology,
        message,
    }
}

/// What to do where the pods are not known by themselves.
fn name_the_pods(owner: &Owner) -> String {
    format!(
        "set {} to the labels of the pods that should get requests",
        owner.setting(annotation::POD_SELECTOR)
    )
}

/// The port that is asked for, else that of a ModelServer, else the usual one.
fn target_port(exposure: &Exposure, server: Option<&ModelServer>) -> u16 {
    let of_server = || {
        let port = u16::try_from(server?.spec.workload_port.port).ok()?;
        (port > 0).then_some(port)
    };
    exposure
        .target_port
        .or_else(of_server)
        .unwrap_or(DEFAULT_PORT)
}
