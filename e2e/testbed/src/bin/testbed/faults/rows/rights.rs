//! The operator lacks one of its rights: it says which, loudly, and goes on as soon as it is there again.

use fault_proxy::{Action, Fault, Selector, Verb};
use k8s_openapi::api::coordination::v1::Lease;
use kthena_bridge_api::child::{ChildKind, LABEL_MANAGED_BY, LABEL_MODEL};
use kthena_bridge_core::OwnerKind;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testbed::{OPERATOR, exposed_by};

use super::super::case::{Case, MODEL};
use super::super::identity::{self, Resource, Right};
use super::super::life::Step;
use super::super::recorded::Settled;
use super::{Ends, PATIENCE, api, end_of_log, equal, logs, name_of, refused, text};

/// What is read beside the kinds that are written.
const READ: [&str; 6] = [
    "modelboosters",
    "modelexposures",
    "modelservings",
    "modelservers",
    "pods",
    "gateways",
];
const EVENTS: Resource = Resource::Other("events");
const LEASES: Resource = Resource::Other("leases");

/// Every right that is used where these kinds are written.
pub(super) fn all(kinds: &[ChildKind]) -> Vec<Right> {
    let mut rights = Vec::new();
    let mut add = |verbs: &[&'static str], on| {
        rights.extend(verbs.iter().map(|&verb| Right { verb, on }));
    };
    for resource in READ {
        add(&["list", "watch"], Resource::Other(resource));
    }
    for kind in kinds {
        add(
            &["list", "watch", "create", "patch", "delete"],
            Resource::Child(*kind),
        );
        // Every route is watched, so none has to be looked up.
        if *kind != ChildKind::HTTPRoute {
            add(&["get"], Resource::Child(*kind));
        }
    }
    add(&["patch"], Resource::Other("modelboosters/status"));
    if exposed_by() == OwnerKind::ModelExposure {
        add(&["patch"], Resource::Other("modelexposures/status"));
    }
    add(&["create"], EVENTS);
    add(&["bind"], Resource::Other("roles"));
    add(&["get", "create", "update"], LEASES);
    rights
}

/// Whether it is used only where there are several operators.
pub(super) fn is_of_leaders(right: Right) -> bool {
    right.on == LEASES
}

/// Has the operator need the right while it is not there, and gives it back.
pub(super) async fn without(case: &Case<'_>, right: Right, ends: &Ends) -> Result<Settled, String> {
    let is_read = matches!(right.verb, "list" | "watch");
    let written = match right.on {
        Resource::Child(kind) if !is_read => Some(kind),
        _ => None,
    };
    let is_there = matches!(right.verb, "patch" | "get" | "delete") && written.is_some();
    if is_there {
        ends.live(case, Step::Create).await?;
    }
    identity::take(&case.namespace, right).await.map_err(text)?;
    if right.verb == "list" {
        // What is streamed takes the right to watch alone.
        case.begin(vec![Fault {
            at: Selector::of(Verb::List, &right.resource()),
            what: Action::Unstreamed,
        }]);
    }
    let from = end_of_log(case)?;
    let needed = async {
        match (right.verb, written) {
            ("patch", Some(kind)) => relabel(case, kind, LABEL_MODEL, json!("another")).await,
            ("get", Some(kind)) => relabel(case, kind, LABEL_MANAGED_BY, Value::Null).await,
            ("delete", Some(_)) => taking_away().take(case, MODEL).await.map_err(text),
            _ if is_read || is_of_leaders(right) => start_anew(case, right).await,
            _ if right.on == EVENTS => {
                // What it told before, it would only count.
                case.operator.start_anew().await.map_err(text)?;
                Step::Create.take(case, MODEL).await.map_err(text)
            }
            _ => Step::Create.take(case, MODEL).await.map_err(text),
        }?;
        logs(case, from, &words(right)).await?;
        // Nothing is served any more of what is deleted, and so nothing is said of it.
        if written.is_some() && right.verb != "delete" {
            refused::says(case, &words(right)).await?;
        }
        Ok::<_, String>(())
    };
    let needed = needed.await;
    let given = identity::give_back(&case.namespace, right).await;
    needed?;
    given.map_err(text)?;
    let since = case.begin(Vec::new());
    if is_read || is_of_leaders(right) {
        Step::Create.take(case, MODEL).await.map_err(text)?;
    }
    let wanted = ends.of(if right.verb == "delete" {
        taking_away()
    } else {
        Step::Create
    })?;
    case.settle(&since, PATIENCE, |state| equal(state, wanted))
        .await
}

/// The step in which the operator deletes what there is. What a ModelExposure owns goes with it by itself, and not with
/// its Model.
fn taking_away() -> Step {
    match exposed_by() {
        OwnerKind::ModelBooster => Step::Close,
        OwnerKind::ModelExposure => Step::Delete,
    }
}

/// Whether the Model is there in the end.
pub(super) fn leaves_the_model(right: Right) -> bool {
    right.verb != "delete" || taking_away() != Step::Delete
}

/// What the API server says where the right is missing.
fn words(right: Right) -> String {
    match right.verb {
        "bind" => "attempting to grant RBAC permissions".to_owned(),
        verb => format!("cannot {verb} resource {:?}", right.resource()),
    }
}

async fn relabel(
    case: &Case<'_>,
    kind: ChildKind,
    label: &str,
    value: Value,
) -> Result<(), String> {
    let patch = json!({"metadata": {"labels": {label: value}}});
    let objects = api(case, kind)?;
    let patched = objects
        .patch(
            &name_of(kind),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await;
    patched
        .map(drop)
        .map_err(|e| format!("labelling {kind}: {e}"))
}

/// Starts the operator anew: a watch that is open stays so without the right.
async fn start_anew(case: &Case<'_>, right: Right) -> Result<(), String> {
    if (right.on, right.verb) == (LEASES, "create") {
        let client = case.bed.client().map_err(text)?;
        let leases: Api<Lease> = Api::namespaced(client, case.namespace.name());
        let deleted = leases.delete(OPERATOR, &DeleteParams::default()).await;
        deleted.map_err(|e| format!("deleting the Lease: {e}"))?;
    }
    case.operator.start_anew().await.map_err(text)
}
