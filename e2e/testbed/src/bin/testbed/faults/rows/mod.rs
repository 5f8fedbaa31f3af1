//! What others do to an exposure, and what becomes of the cluster around it, beside what goes wrong with requests.
//!
//! A row begins and ends with a Model that is not annotated. Most of them follow each other in one namespace.

mod admission;
mod kthena;
mod others;
mod refused;

use std::collections::BTreeMap;
use std::time::Duration;

use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::DynamicObject;
use serde_json::json;

use super::AT_FIRST;
use super::case::{Case, MODEL, Patience, Settled};
use super::life::Step;
use super::state::State;

/// How long a row waits for what it is to end in: that of a step with a fault.
const PATIENCE: Patience = super::WITH_FAULT;
/// How long it waits for what it is about to show.
const SHOWN: Duration = Duration::from_secs(40);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// Somebody writes the same field again and again.
    Rival(ChildKind),
    /// An object of the name is there already, of which we have no part.
    Foreign(ChildKind),
    /// The Model is deleted.
    Deleted(&'static str),
    /// The Gateway is gone when the annotation is taken off.
    WithoutGateway,
    /// Kthena writes its conditions again and again.
    KthenaWrites,
    /// Kthena does not run.
    KthenaDown,
    /// A policy denies a kind.
    Denied(ChildKind),
    /// A webhook for a kind never answers.
    Unanswered(ChildKind),
    /// A policy changes what is written of a kind.
    Changed(ChildKind),
}

/// What each step of an exposure's life ends in.
pub(crate) struct Ends(pub(crate) BTreeMap<Step, State>);

impl Ends {
    /// What a step ends in.
    fn of(&self, step: Step) -> Result<&State, String> {
        let state = self.0.get(&step);
        state.ok_or_else(|| format!("nothing is known of {}", step.as_str()))
    }

    /// Takes a step without a fault, and gives what it ended in.
    async fn live(&self, case: &Case<'_>, step: Step) -> Result<&State, String> {
        let wanted = self.of(step)?;
        case.step(step, None, Some(wanted), AT_FIRST).await?;
        Ok(wanted)
    }
}

impl Row {
    /// All of them, where these kinds are written.
    pub(crate) fn all(kinds: &[ChildKind]) -> Vec<Self> {
        let mut rows = vec![
            Self::Rival(ChildKind::HTTPRoute),
            Self::Rival(ChildKind::InferencePool),
        ];
        rows.extend(kinds.iter().map(|kind| Self::Foreign(*kind)));
        rows.extend(["Foreground", "Background", "Orphan"].map(Self::Deleted));
        rows.extend([Self::WithoutGateway, Self::KthenaWrites, Self::KthenaDown]);
        rows.extend([ChildKind::HTTPRoute, ChildKind::Deployment].map(Self::Denied));
        rows.push(Self::Unanswered(ChildKind::InferencePool));
        rows.extend([ChildKind::HTTPRoute, ChildKind::Deployment].map(Self::Changed));
        rows
    }

    /// Its name.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Rival(kind) => format!("a rival writes the {kind} 50 times a second"),
            Self::Foreign(kind) => format!("somebody else's {kind} of the name"),
            Self::Deleted(how) => format!("deleted, propagation {how}"),
            Self::WithoutGateway => "un-annotated without its Gateway".to_owned(),
            Self::KthenaWrites => "Kthena writes the status 20 times a second".to_owned(),
            Self::KthenaDown => "Kthena is down".to_owned(),
            Self::Denied(kind) => format!("a policy denies every {kind}"),
            Self::Unanswered(kind) => format!("a webhook for every {kind} never answers"),
            Self::Changed(kind) => format!("a policy changes every {kind}"),
        }
    }

    /// Whether the Model is there afterwards, and not annotated, as it was before.
    pub(crate) fn leaves_the_model(self) -> bool {
        !matches!(self, Self::Deleted(_))
    }

    /// Whether nothing else can be done in the bed meanwhile.
    pub(crate) fn takes_the_bed(self) -> bool {
        matches!(self, Self::KthenaDown)
    }

    /// Carries it out, from a Model that is not annotated.
    ///
    /// # Errors
    /// What was not as it should be.
    pub(crate) async fn carry_out(
        self,
        case: &mut Case<'_>,
        ends: &Ends,
    ) -> Result<Settled, String> {
        let settled = match self {
            Self::Rival(kind) => others::rival(case, kind, ends).await,
            Self::Foreign(kind) => others::foreign(case, kind, ends).await,
            Self::Deleted(how) => others::deleted(case, how, ends).await,
            Self::WithoutGateway => others::without_gateway(case, ends).await,
            Self::KthenaWrites => kthena::writes(case, ends).await,
            Self::KthenaDown => kthena::down(case, ends).await,
            Self::Denied(kind) => admission::denied(case, kind, ends).await,
            Self::Unanswered(kind) => admission::unanswered(case, kind, ends).await,
            Self::Changed(kind) => admission::changed(case, kind, ends).await,
        }?;
        if self.leaves_the_model() {
            ends.live(case, Step::Close).await?;
        }
        Ok(settled)
    }
}

fn api(case: &Case<'_>, kind: ChildKind) -> Result<Api<DynamicObject>, String> {
    let model = case.namespace.model_named(MODEL);
    let api = model.and_then(|model| model.children_api(kind));
    api.map_err(|e| e.to_string())
}

fn name_of(kind: ChildKind) -> String {
    if kind.is_pickers() {
        format!("{MODEL}-epp")
    } else {
        MODEL.to_owned()
    }
}

/// An object like that of the Model, which nobody owns.
fn object_of(
    case: &Case<'_>,
    served: &State,
    kind: ChildKind,
    name: &str,
) -> Result<DynamicObject, String> {
    let mut object = served
        .object(kind, &name_of(kind))
        .ok_or_else(|| format!("no {kind} is written"))?;
    object["metadata"] = json!({"name": name, "namespace": case.namespace.name()});
    let text = object
        .to_string()
        .replace("NAMESPACE", case.namespace.name());
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

fn equal(state: &State, wanted: &State) -> Result<(), String> {
    let differences = state.differences(wanted);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
