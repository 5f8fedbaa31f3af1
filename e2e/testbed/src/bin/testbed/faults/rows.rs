//! What others do to an exposure, beside what goes wrong with requests: rivals, objects that are there already,
//! every way to delete, and ways out of what is broken.

use std::time::{Duration, Instant};

use kthena_bridge_api::FIELD_MANAGER;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::gateway::Gateway;
use kthena_bridge_api::kthena::ModelBooster;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::AT_FIRST;
use super::case::{Case, GATEWAY, MODEL, Patience, Settled};
use super::life::Step;
use super::state::State;

/// How long a rival goes on, and between two of its writes.
const RIVALRY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// The most that the operator may write meanwhile: what it makes good 5 times, by two writes where the rival adds
/// to what is the operator's alone, and what the first write takes more.
const ANSWERS: u32 = 11;

/// What others do.
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
        rows.push(Self::WithoutGateway);
        rows
    }

    /// Its name.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Rival(kind) => format!("a rival writes the {kind} 50 times a second"),
            Self::Foreign(kind) => format!("somebody else's {kind} of the name"),
            Self::Deleted(how) => format!("deleted, propagation {how}"),
            Self::WithoutGateway => "un-annotated without its Gateway".to_owned(),
        }
    }

    /// Whether the Model is there afterwards, and not annotated, as it was before.
    pub(crate) fn leaves_the_model(self) -> bool {
        !matches!(self, Self::Deleted(_))
    }

    /// Carries it out, from a Model that is not annotated.
    ///
    /// # Errors
    /// What was not as it should be.
    pub(crate) async fn carry_out(
        self,
        case: &Case<'_>,
        served: &State,
        closed: &State,
        patience: Patience,
    ) -> Result<Settled, String> {
        let expose = case.step(Step::Create, None, Some(served), AT_FIRST);
        match self {
            Self::Foreign(kind) => {
                let settled = foreign(case, kind, served, patience).await?;
                close(case, closed).await?;
                Ok(settled)
            }
            Self::Rival(kind) => {
                expose.await?;
                let settled = rival(case, kind, served, patience).await?;
                close(case, closed).await?;
                Ok(settled)
            }
            Self::Deleted(how) => {
                expose.await?;
                deleted(case, how, closed, patience).await
            }
            Self::WithoutGateway => {
                expose.await?;
                without_gateway(case, closed, patience).await
            }
        }
    }
}

async fn close(case: &Case<'_>, closed: &State) -> Result<(), String> {
    let closed = case.step(Step::Close, None, Some(closed), AT_FIRST);
    closed.await.map(drop)
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

/// Fights about a field, and comes to rest when the rival does.
async fn rival(
    case: &Case<'_>,
    kind: ChildKind,
    served: &State,
    patience: Patience,
) -> Result<Settled, String> {
    let patch = match kind {
        ChildKind::HTTPRoute => json!({"spec": {"hostnames": ["rival.example.com"]}}),
        _ => json!({"spec": {"selector": {"matchLabels": {"rival": "true"}}}}),
    };
    let (api, name) = (api(case, kind)?, name_of(kind));
    let params = PatchParams {
        field_manager: Some("rival".to_owned()),
        ..PatchParams::default()
    };
    let since = case.begin(Vec::new());
    let began = Instant::now();
    while began.elapsed() < RIVALRY {
        let patched = api.patch(&name, &params, &Patch::Merge(&patch)).await;
        patched.map_err(|e| format!("the rival cannot write: {e}"))?;
        tokio::time::sleep(PAUSE).await;
    }
    let wrote = case.written(&since, kind, &name);
    if wrote > ANSWERS {
        return Err(format!("it wrote {wrote} times in {RIVALRY:?}"));
    }
    case.settle(&since, patience, |state| equal(state, served))
        .await
}

/// Leaves the object alone, says so, and goes on when it is gone.
async fn foreign(
    case: &Case<'_>,
    kind: ChildKind,
    served: &State,
    patience: Patience,
) -> Result<Settled, String> {
    let (api, name) = (api(case, kind)?, name_of(kind));
    let mut object = served
        .object(kind, &name)
        .ok_or_else(|| format!("no {kind} is written"))?;
    object["metadata"] = json!({"name": name, "namespace": case.namespace.name()});
    let text = object
        .to_string()
        .replace("NAMESPACE", case.namespace.name());
    let object: DynamicObject = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    api.create(&PostParams::default(), &object)
        .await
        .map_err(|e| format!("creating it: {e}"))?;
    let since = case.begin(Vec::new());
    let annotated = Step::Create.take(case, MODEL).await;
    annotated.map_err(|e| e.to_string())?;
    case.settle(&since, patience, |state| state.refuses(MODEL))
        .await?;
    let live = api.get(&name).await.map_err(|e| e.to_string())?;
    let touched = live
        .managed_fields()
        .iter()
        .any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    if touched || !live.owner_references().is_empty() {
        return Err(format!("it was touched: {live:#?}"));
    }
    let since = case.begin(Vec::new());
    api.delete(&name, &DeleteParams::background())
        .await
        .map_err(|e| format!("deleting it: {e}"))?;
    case.settle(&since, patience, |state| equal(state, served))
        .await
}

/// Nothing is left but what is to be. The namespace is of no use any more: what Kthena leaves to itself may stay.
async fn deleted(
    case: &Case<'_>,
    how: &str,
    closed: &State,
    patience: Patience,
) -> Result<Settled, String> {
    let failed = |e: kube::Error| e.to_string();
    let client = case.bed.client().map_err(|e| e.to_string())?;
    let models: Api<ModelBooster> = Api::namespaced(client, case.namespace.name());
    let propagation = match how {
        "Foreground" => PropagationPolicy::Foreground,
        "Orphan" => PropagationPolicy::Orphan,
        _ => PropagationPolicy::Background,
    };
    let params = DeleteParams {
        propagation_policy: Some(propagation),
        ..DeleteParams::default()
    };
    let since = case.begin(Vec::new());
    models.delete(MODEL, &params).await.map_err(failed)?;
    let settled = if how == "Orphan" {
        let settled = case
            .settle(&since, patience, |state| state.is_orphaned(MODEL))
            .await?;
        if settled.requests > 0 {
            return Err(format!("it wrote what was orphaned: {:?}", settled.writes));
        }
        settled
    } else {
        case.settle(&since, patience, |state| equal(state, closed))
            .await?
    };
    Ok(settled)
}

/// Takes everything away although the Gateway is gone, which comes back in the end.
async fn without_gateway(
    case: &Case<'_>,
    closed: &State,
    patience: Patience,
) -> Result<Settled, String> {
    let client = case.bed.client().map_err(|e| e.to_string())?;
    let gateways: Api<Gateway> = Api::namespaced(client, case.namespace.name());
    let params = DeleteParams::default();
    let deleted = gateways.delete(GATEWAY, &params).await;
    deleted.map_err(|e| e.to_string())?;
    let since = case.begin(Vec::new());
    let taken = Step::Close.take(case, MODEL).await;
    taken.map_err(|e| e.to_string())?;
    let settled = case
        .settle(&since, patience, |state| equal(state, closed))
        .await?;
    let made = case.namespace.gateway(GATEWAY).await;
    made.map_err(|e| e.to_string())?;
    Ok(settled)
}

fn equal(state: &State, wanted: &State) -> Result<(), String> {
    let differences = state.differences(wanted);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences)
    }
}
