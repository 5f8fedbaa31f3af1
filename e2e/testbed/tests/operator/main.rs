//! The operator, as a Pod on the bed, with all the real components around it.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

mod annotations;
mod claims;
mod drift;
mod exposures;
mod kthena_router;
mod metrics;
mod model_exposure;
mod model_server;
mod reachable;
mod rights;
mod serve;
mod steady;
mod stopped;

use std::fmt::Write as _;
use std::time::Duration;

use kthena_bridge_api::child::ChildKind;
use kube::api::DynamicObject;
use serde_json::Value;
use testbed::{Model, Operated, TestBed};
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(40);

async fn bed() -> Operated<RwLockReadGuard<'static, ()>> {
    TestBed::operated().await.unwrap()
}

async fn bed_alone() -> Operated<RwLockWriteGuard<'static, ()>> {
    TestBed::operated_alone().await.unwrap()
}

/// An object without what changes by itself, or by being made anew.
fn essence(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    value.as_object_mut().unwrap().remove("status");
    let metadata = value["metadata"].as_object_mut().unwrap();
    for field in [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
    ] {
        metadata.remove(field);
    }
    if let Some(annotations) = metadata
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove("deployment.kubernetes.io/revision");
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    if let Some(template) = value.pointer_mut("/spec/template/metadata/annotations") {
        template
            .as_object_mut()
            .unwrap()
            .remove("kthena-bridge.io/pool-uid");
    }
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    value
}

/// The essence of every object of a Model.
async fn essences(model: &Model<'_>) -> Result<Vec<(ChildKind, Value)>, String> {
    let children = model.children().await?;
    Ok(children
        .iter()
        .map(|(kind, object)| (*kind, essence(object)))
        .collect())
}

/// Waits until the objects of a Model are as they were.
async fn wait_until_as_before(
    bed: &TestBed,
    model: &Model<'_>,
    before: &[(ChildKind, Value)],
    what: &str,
) {
    let looked = bed.wait_for(what, LIMIT, async || {
        let now = essences(model).await?;
        if now == before {
            return Ok(());
        }
        let mut differences = String::new();
        for kind in ChildKind::ALL {
            let of = |all: &[(ChildKind, Value)]| {
                all.iter().find(|(k, _)| *k == kind).map(|(_, o)| o.clone())
            };
            let (was, is) = (of(before), of(&now));
            if was != is {
                let _ = writeln!(differences, "{kind} was {was:#?}\nand is {is:#?}");
            }
        }
        Err(differences)
    });
    looked.await.unwrap();
}

/// Waits until the objects of a Model are gone, which has been deleted.
async fn wait_until_gone(bed: &TestBed, model: &Model<'_>) {
    let what = format!("nothing of the deleted Model {} is left", model.name());
    let looked = bed.wait_for(what, LIMIT, async || {
        let left = model.children().await?.into_iter().map(|(kind, _)| kind);
        let left: Vec<ChildKind> = left.collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    looked.await.unwrap();
}

/// Kind, name and version of every object of a Model.
async fn versions(model: &Model<'_>) -> Vec<(ChildKind, String, String)> {
    let children = model.children().await.unwrap();
    let of = |o: &DynamicObject| {
        (
            o.metadata.name.clone().unwrap(),
            o.metadata.resource_version.clone().unwrap(),
        )
    };
    children
        .iter()
        .map(|(kind, o)| (*kind, of(o).0, of(o).1))
        .collect()
}

/// The types of the conditions that Kthena wrote and that are True.
async fn kthenas_conditions(model: &Model<'_>) -> Vec<String> {
    let conditions = model
        .get()
        .await
        .unwrap()
        .status
        .unwrap_or_default()
        .conditions;
    let kthenas = conditions
        .into_iter()
        .filter(|c| !matches!(c.type_.as_str(), "Accepted" | "Programmed" | "Reachable"));
    kthenas
        .filter(|c| c.status == "True")
        .map(|c| c.type_)
        .collect()
}
