//! Whether a Model is to be exposed, and the route that it asks for.

use std::sync::Arc;

use kthena_bridge_api::kthena::ModelBooster;

use crate::config::Config;
use crate::exposure::{Exposure, InvalidAnnotations};
use crate::observe::{Cluster, Route};
use crate::plan;
use crate::topology::{Owner, Topology};

/// The finalizer of an object that is deleted after what it owns.
/// <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#foreground-deletion>
const FOREGROUND: &str = "foregroundDeletion";

/// What a Model asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Nothing may be done for now: it is on its way out, or Kthena has not begun with it.
    Wait,
    /// Not, or no longer, to be exposed: nothing of ours may be there.
    Nothing,
    /// What is not understood.
    Invalid(InvalidAnnotations),
    /// To be exposed.
    Exposure(Box<Exposure>),
}

impl Ask {
    /// Reads what a Model asks for.
    pub fn of(model: &ModelBooster, config: &Config) -> Self {
        // The objects go with it, by their owner references, or stay without an owner. Where they go first, the
        // Model may be there for long, and what its conditions say is no longer so.
        if model.metadata.deletion_timestamp.is_some() {
            let mut finalizers = model.metadata.finalizers.iter().flatten();
            return if finalizers.any(|f| f == FOREGROUND) {
                Self::Nothing
            } else {
                Self::Wait
            };
        }
        let owner = Owner::of(&model.metadata);
        let annotations = model.metadata.annotations.clone().unwrap_or_default();
        let parsed = Exposure::parse(&owner.namespace, &owner.name, &annotations, config);
        let Some(parsed) = parsed.transpose() else {
            return Self::Nothing;
        };
        // Kthena writes its first condition only while there is none at all.
        if model
            .status
            .as_ref()
            .is_none_or(|status| status.conditions.is_empty())
        {
            return Self::Wait;
        }
        match parsed {
            Ok(exposure) => Self::Exposure(Box::new(exposure)),
            Err(invalid) => Self::Invalid(invalid),
        }
    }
}

/// Whether a Model asks to be exposed, understood or not, whatever the operator's configuration.
pub fn is_exposed(model: &ModelBooster) -> bool {
    let annotations = model.metadata.annotations.clone().unwrap_or_default();
    !matches!(
        Exposure::parse("", "", &annotations, &Config::default()),
        Ok(None)
    )
}

/// The route that is asked for, as old as its Model while it is not written, and the same route as it is.
pub fn route(
    model: &ModelBooster,
    exposure: &Exposure,
    topology: &Topology,
    config: &Config,
    cluster: &impl Cluster,
) -> (Route, Option<Arc<Route>>) {
    let mut wanted = plan::route(exposure, topology, config);
    let created = &model.metadata.creation_timestamp;
    wanted.metadata.created = created.as_ref().map(|time| time.0);
    (wanted, topology.owner.route(cluster))
}

#[cfg(test)]
mod tests {
    use kthena_bridge_api::annotation::EXPOSE;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_that_is_deleted_is_waited_for_unless_its_objects_go_first() {
        let ask = |finalizers: &[&str]| {
            let model = json!({
                "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelBooster",
                "metadata": {"name": "demo", "annotations": {EXPOSE: "true"}, "finalizers": finalizers,
                    "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {},
            });
            Ask::of(&serde_json::from_value(model).unwrap(), &Config::default())
        };
        assert_eq!(ask(&["example.com/theirs"]), Ask::Wait);
        assert_eq!(ask(&["orphan"]), Ask::Wait);
        assert_eq!(ask(&[FOREGROUND]), Ask::Nothing);
    }
}
