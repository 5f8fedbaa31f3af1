//! What others do to an exposure, and what becomes of the cluster around it, beside what goes wrong with requests.
//!
//! A row begins and ends with a Model that is not annotated. Most of them follow each other in one namespace.

mod admission;
mod control_plane;
mod crowd;
mod kthena;
mod leader;
mod namespace;
mod others;
mod refused;
mod rights;
mod versions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::DynamicObject;
use serde_json::json;

use super::case::{Case, MODEL, Patience};
use super::identity::Right;
use super::life::Step;
use super::operator::Operator;
use super::recorded::Settled;
use super::state::State;
use super::{AFTER_A_ROW, AT_FIRST};
use leader::Loss;
use versions::Versions;

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
    /// A quota leaves no room for a kind.
    Quota(ChildKind),
    /// The namespace ends, and cannot.
    NamespaceEnds,
    /// Another operator takes over.
    Leader(Loss),
    /// The API server ends, and is started again after so many seconds.
    Outage(u64),
    /// etcd takes nothing any more.
    FullEtcd,
    /// The operator lacks a right.
    Without(Right),
    /// What is there was written by a field manager of another name.
    Renamed,
    /// Two versions take turns.
    Versions(Versions),
    /// Many Models share the Gateway, and all but one change again and again.
    Crowd,
}

/// What else can be done at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Others, before and after it in the same namespace.
    Shared,
    /// Others, in namespaces of their own.
    Apart,
    /// Nothing in the bed.
    Alone,
}

/// What rows are held against.
pub(crate) struct Ends {
    /// What each step of an exposure's life ends in.
    pub(crate) states: BTreeMap<Step, State>,
    /// Another version of the operator.
    pub(crate) other: Option<PathBuf>,
}

impl Ends {
    /// What a step ends in.
    fn of(&self, step: Step) -> Result<&State, String> {
        let state = self.states.get(&step);
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
    /// All of them, where these kinds are written, and there is another version of the operator or not.
    pub(crate) fn all(kinds: &[ChildKind], other: bool) -> Vec<Self> {
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
        let counted = [
            ChildKind::HTTPRoute,
            ChildKind::InferencePool,
            ChildKind::Service,
            ChildKind::Deployment,
        ];
        rows.extend(counted.map(Self::Quota));
        rows.push(Self::NamespaceEnds);
        rows.extend(Loss::ALL.map(Self::Leader));
        rows.push(Self::FullEtcd);
        rows.extend(rights::all(kinds).into_iter().map(Self::Without));
        rows.extend([Self::Renamed, Self::Crowd]);
        if other {
            let versions = [Versions::ThereAndBack, Versions::FromTheOther];
            rows.extend(versions.map(Self::Versions));
        }
        // What else runs in the bed needs a while to come back.
        rows.extend([Self::Outage(0), Self::Outage(45)]);
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
            Self::Quota(kind) => format!("a quota leaves no room for a {kind}"),
            Self::NamespaceEnds => "the namespace ends, and cannot".to_owned(),
            Self::Leader(loss) => loss.name().to_owned(),
            Self::Outage(seconds) => {
                format!("the API server is killed, and back {seconds} s later")
            }
            Self::FullEtcd => "etcd has no space left".to_owned(),
            Self::Without(right) => format!("no right to {} {}", right.verb, right.resource()),
            Self::Renamed => "written by a field manager of another name".to_owned(),
            Self::Versions(Versions::ThereAndBack) => "the other version, and back".to_owned(),
            Self::Versions(Versions::FromTheOther) => "made by the other version".to_owned(),
            Self::Crowd => "one of 200 Models, the others of which flap".to_owned(),
        }
    }

    /// Whether the Model is there afterwards, and not annotated, as it was before.
    pub(crate) fn leaves_the_model(self) -> bool {
        match self {
            Self::Deleted(_) | Self::NamespaceEnds | Self::Crowd => false,
            Self::Without(right) => rights::leaves_the_model(right),
            _ => true,
        }
    }

    /// Whether the namespace is gone afterwards.
    pub(crate) fn ends_the_namespace(self) -> bool {
        self == Self::NamespaceEnds
    }

    /// What else can be done at the same time.
    pub(crate) fn place(self) -> Place {
        match self {
            Self::KthenaDown | Self::Outage(_) | Self::FullEtcd | Self::Crowd => Place::Alone,
            Self::Versions(_) => Place::Apart,
            _ if self.has_leader() => Place::Apart,
            _ => Place::Shared,
        }
    }

    /// What its operator is started with beside the usual.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        if self.has_leader() {
            &leader::ARGUMENTS
        } else {
            &[]
        }
    }

    fn has_leader(self) -> bool {
        match self {
            Self::Leader(_) => true,
            Self::Without(right) => rights::is_of_leaders(right),
            _ => false,
        }
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
            Self::Quota(kind) => namespace::quota(case, kind, ends).await,
            Self::NamespaceEnds => namespace::ends(case, ends).await,
            Self::Leader(loss) => leader::lost(case, loss, ends).await,
            Self::Outage(seconds) => {
                control_plane::outage(case, Duration::from_secs(seconds), ends).await
            }
            Self::FullEtcd => control_plane::full(case, ends).await,
            Self::Without(right) => rights::without(case, right, ends).await,
            Self::Renamed => versions::renamed(case, ends).await,
            Self::Versions(versions) => versions::replaced(case, versions, ends).await,
            Self::Crowd => crowd::flaps(case).await,
        }?;
        if self.leaves_the_model() {
            let closed = ends.of(Step::Close)?;
            case.step(Step::Close, None, Some(closed), AFTER_A_ROW)
                .await?;
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

/// Where the operator's log ends now.
fn end_of_log(case: &Case<'_>) -> Result<usize, String> {
    let log = std::fs::read(&case.operator.log).map_err(text)?;
    Ok(log.len())
}

/// Waits until the operator's log has these words, from there on.
async fn logs(case: &Case<'_>, from: usize, words: &str) -> Result<(), String> {
    let told = case
        .bed
        .wait_for(format!("the log says {words:?}"), SHOWN, async || {
            let log = std::fs::read(&case.operator.log).map_err(text)?;
            let log = String::from_utf8_lossy(log.get(from..).unwrap_or_default());
            // A quote within a value has a backslash before it.
            let log = log.replace('\\', "");
            log.contains(words).then_some(()).ok_or(log)
        });
    told.await.map_err(text)
}

/// Waits until an operator has ended by itself, and tells how.
async fn ended(case: &Case<'_>, operator: &Operator) -> Result<String, String> {
    let ended = case.bed.wait_for("the operator ends", SHOWN, async || {
        let ended = operator.fate().ended;
        ended.ok_or_else(|| "it runs".to_owned())
    });
    ended.await.map_err(text)
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
