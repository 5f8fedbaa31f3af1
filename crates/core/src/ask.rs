//! Whether something asks for an exposure, and the route that it asks for.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kthena_bridge_api::condition::Reason;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kube::core::ObjectMeta;

use crate::config::Config;
use crate::exposure::{Exposure, InvalidSetting, InvalidSettings};
use crate::holder;
use crate::observe::{Cluster, Route};
use crate::owner::{Owner, OwnerKind};
use crate::plan;
use crate::target::{Target, TargetKind};
use crate::topology::{NotAccepted, Topology};

/// The finalizer of an object that is deleted after what it owns.
/// <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#foreground-deletion>
const FOREGROUND: &str = "foregroundDeletion";

/// What may ask for an exposure.
#[derive(Clone, Debug)]
pub enum Source {
    /// A Model, of itself, by its annotations.
    Model(Arc<ModelBooster>),
    /// An object that says what of which Model.
    Object(Arc<ModelExposure>),
}

impl Source {
    /// Its kind.
    pub fn kind(&self) -> OwnerKind {
        match self {
            Self::Model(_) => OwnerKind::ModelBooster,
            Self::Object(_) => OwnerKind::ModelExposure,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Model(model) => &model.metadata,
            Self::Object(exposure) => &exposure.metadata,
        }
    }

    /// Its conditions, whoever wrote them.
    pub fn conditions(&self) -> &[Condition] {
        let conditions = match self {
            Self::Model(model) => model.status.as_ref().map(|status| &status.conditions),
            Self::Object(exposure) => exposure.status.as_ref().map(|status| &status.conditions),
        };
        conditions.map(Vec::as_slice).unwrap_or_default()
    }

    /// As the owner of what is written for it.
    pub fn owner(&self) -> Owner {
        Owner::of(self.kind(), self.metadata())
    }

    /// Whether it asks for an exposure, understood or not, whatever the operator's configuration.
    pub fn is_exposed(&self) -> bool {
        match self {
            Self::Model(model) => is_exposed(model),
            Self::Object(_) => true,
        }
    }

    /// What it asks for; nothing when it is not to be exposed.
    ///
    /// # Errors
    /// Every annotation or field that is not understood, with what is allowed instead.
    pub fn exposure(&self, config: &Config) -> Result<Option<Exposure>, InvalidSettings> {
        let owner = self.owner();
        let (namespace, name) = (&owner.namespace, &owner.name);
        match self {
            Self::Model(model) => {
                let annotations = model.metadata.annotations.clone().unwrap_or_default();
                Exposure::parse(namespace, name, &annotations, config)
            }
            Self::Object(exposure) => {
                Exposure::of_object(namespace, name, &exposure.spec, config).map(Some)
            }
        }
    }
}

impl From<ModelBooster> for Source {
    fn from(model: ModelBooster) -> Self {
        Self::Model(Arc::new(model))
    }
}

impl From<ModelExposure> for Source {
    fn from(exposure: ModelExposure) -> Self {
        Self::Object(Arc::new(exposure))
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Nothing may be done for now: it is on its way out, or Kthena has not begun with it.
    Wait,
    /// Not, or no longer, to be exposed: nothing of ours may be there.
    Nothing,
    /// Not to be exposed as it is asked for.
    Refused(NotAccepted),
    /// What is not understood, of what, where that is there.
    Invalid(InvalidSettings, Option<Target>),
    /// To be exposed.
    Exposure(Box<Exposure>, Target),
}

impl Ask {
    /// Reads what is asked for.
    pub fn of(source: &Source, config: &Config, cluster: &impl Cluster) -> Self {
        let metadata = source.metadata();
        // The objects go with it, by their owner references, or stay without an owner. Where they go first, it may be
        // there for long, and what its conditions say is no longer so.
        if metadata.deletion_timestamp.is_some() {
            let mut finalizers = metadata.finalizers.iter().flatten();
            return if finalizers.any(|f| f == FOREGROUND) {
                Self::Nothing
            } else {
                Self::Wait
            };
        }
        let Some(parsed) = source.exposure(config).transpose() else {
            return Self::Nothing;
        };
        let target = match source {
            Source::Model(model) if has_begun(model) => Target::Booster(Arc::clone(model)),
            // Kthena writes its first condition only while there is none at all.
            Source::Model(_) => return Self::Wait,
            Source::Object(exposure) => match target(exposure, cluster) {
                Ok(target) => target,
                Err(ask) => return ask,
            },
        };
        if let Err(refused) = holder::check(&source.owner(), &target, cluster) {
            return Self::Refused(refused);
        }
        match parsed {
            Ok(exposure) => Self::Exposure(Box::new(exposure), target),
            Err(invalid) => Self::Invalid(invalid, Some(target)),
        }
    }
}

/// Whether Kthena has written its first condition, which it does only while there is none at all.
pub fn has_begun(model: &ModelBooster) -> bool {
    let conditions = model.status.as_ref().map(|status| &status.conditions);
    conditions.is_some_and(|conditions| !conditions.is_empty())
}

/// The target of a ModelExposure.
fn target(exposure: &ModelExposure, cluster: &impl Cluster) -> Result<Target, Ask> {
    let reference = &exposure.spec.target_ref;
    let namespace = exposure.metadata.namespace.as_deref().unwrap_or_default();
    let Some(kind) = TargetKind::named(&reference.kind) else {
        let invalid = InvalidSettings(vec![InvalidSetting {
            key: "spec.targetRef.kind".to_owned(),
            value: reference.kind.clone(),
            problem: "is neither ModelBooster nor ModelServer".to_owned(),
        }]);
        return Err(Ask::Invalid(invalid, None));
    };
    let refused = |reason, message| Err(Ask::Refused(NotAccepted { reason, message }));
    if !cluster.serves_target(kind) {
        let message = format!(
            "{} is not installed; install Kthena, and it is picked up",
            kind.as_str()
        );
        return refused(Reason::MissingKind, message);
    }
    let target = match kind {
        TargetKind::ModelBooster => cluster
            .booster(namespace, &reference.name)
            .map(Target::Booster),
        TargetKind::ModelServer => cluster
            .server(namespace, &reference.name)
            .map(Target::Server),
    };
    match target {
        Some(target) => Ok(target),
        None => refused(
            Reason::TargetNotFound,
            format!(
                "{} {namespace}/{} does not exist; create it, or remove this ModelExposure",
                kind.as_str(),
                reference.name
            ),
        ),
    }
}

/// Whether a Model asks to be exposed, understood or not, whatever the operator's configuration.
pub(crate) fn is_exposed(model: &ModelBooster) -> bool {
    let annotations = model.metadata.annotations.clone().unwrap_or_default();
    !matches!(
        Exposure::parse("", "", &annotations, &Config::default()),
        Ok(None)
    )
}

/// The route that is asked for, as old as what asks for it while it is not written, and the same route as it is.
pub fn route(
    exposure: &Exposure,
    topology: &Topology,
    config: &Config,
    cluster: &impl Cluster,
) -> (Route, Option<Arc<Route>>) {
    let mut wanted = plan::route(exposure, topology, config);
    wanted.metadata.created = topology.owner.created;
    (wanted, topology.owner.route(cluster))
}

#[cfg(test)]
mod tests {
    use kthena_bridge_api::annotation::EXPOSE;
    use serde_json::json;

    use super::*;
    use crate::observe::Objects;

    #[test]
    fn a_model_that_is_deleted_is_waited_for_unless_its_objects_go_first() {
        let ask = |finalizers: &[&str]| {
            let model = json!({
                "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelBooster",
                "metadata": {"name": "demo", "annotations": {EXPOSE: "true"}, "finalizers": finalizers,
                    "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {},
            });
            let source = Source::from(serde_json::from_value::<ModelBooster>(model).unwrap());
            Ask::of(&source, &Config::default(), &Objects::default())
        };
        assert_eq!(ask(&["example.com/theirs"]), Ask::Wait);
        assert_eq!(ask(&["orphan"]), Ask::Wait);
        assert_eq!(ask(&[FOREGROUND]), Ask::Nothing);
    }
}
