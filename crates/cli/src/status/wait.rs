//! `kthena-bridge status --wait`: a watch, until the Models have a condition.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use kthena_bridge_api::condition::ConditionType;
use kthena_bridge_api::kthena::ModelBooster;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};

use super::Selection;
use crate::observe::{self, within};

/// Seconds after which the API server ends a watch: before its silence is taken for a failure.
const WATCH: u32 = 15;

/// How the Models stand.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// All have the condition.
    Met,
    /// What some lack.
    Unmet(Vec<String>),
    /// What waiting does not help against.
    Wrong(Vec<String>),
}

/// Waits until every Model has the condition; what stands in the way when the time is over, or at once where
/// waiting does not help.
pub(super) async fn wait(
    client: &Client,
    selection: &Selection,
    condition: ConditionType,
    timeout: Duration,
) -> Result<Vec<String>, observe::Error> {
    let mut last = vec![format!(
        "the ModelBoosters {} were not listed within {timeout:?}",
        within(selection.namespace.as_deref())
    )];
    let watch = watch(client, selection, condition, &mut last);
    match tokio::time::timeout(timeout, watch).await {
        Ok(ended) => ended,
        Err(_) => Ok(last),
    }
}

/// Ends when waiting does no more; `last` is what stands in the way meanwhile.
async fn watch(
    client: &Client,
    selection: &Selection,
    condition: ConditionType,
    last: &mut Vec<String>,
) -> Result<Vec<String>, observe::Error> {
    let api: Api<ModelBooster> = match &selection.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let config = watcher::Config::default().timeout(WATCH);
    let config = match selection.names.as_slice() {
        [one] => config.fields(&format!("metadata.name={one}")),
        _ => config,
    };
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut models = BTreeMap::new();
    let mut listed = false;
    while let Some(event) = events.next().await {
        let key = |m: &ModelBooster| (m.metadata.namespace.clone(), m.metadata.name.clone());
        match event {
            Ok(Event::Init) => {
                models.clear();
                listed = false;
            }
            Ok(Event::InitApply(model) | Event::Apply(model)) => {
                models.insert(key(&model), model);
            }
            Ok(Event::Delete(model)) => drop(models.remove(&key(&model))),
            Ok(Event::InitDone) => listed = true,
            Err(watcher::Error::InitialListFailed(error)) => {
                refused(&error, selection)?;
            }
            // The watcher begins anew by itself.
            Err(_) => {}
        }
        if !listed {
            continue;
        }
        match standing(selection, models.values(), condition) {
            Standing::Met => return Ok(Vec::new()),
            Standing::Wrong(wrong) => return Ok(wrong),
            Standing::Unmet(unmet) => *last = unmet,
        }
    }
    Ok(last.clone())
}

/// An error where asking again does not help.
fn refused(error: &kube::Error, selection: &Selection) -> Result<(), observe::Error> {
    let kube::Error::Api(status) = error else {
        return Ok(());
    };
    match status.code {
        404 => Err(observe::Error::NoKthena),
        401 | 403 => Err(observe::Error::Forbidden {
            of: within(selection.namespace.as_deref()),
            cause: status.message.clone(),
        }),
        _ => Ok(()),
    }
}

fn standing<'a>(
    selection: &Selection,
    models: impl Iterator<Item = &'a ModelBooster> + Clone,
    type_: ConditionType,
) -> Standing {
    let (exposed, wrong) = selection.select(models);
    if !wrong.is_empty() {
        return Standing::Wrong(wrong);
    }
    let unmet: Vec<String> = exposed.iter().filter_map(|m| lacks(m, type_)).collect();
    if unmet.is_empty() {
        Standing::Met
    } else {
        Standing::Unmet(unmet)
    }
}

/// What stands in the way of a condition.
fn lacks(model: &ModelBooster, type_: ConditionType) -> Option<String> {
    let of = |m: &Option<String>| m.clone().unwrap_or_default();
    let (namespace, name) = (of(&model.metadata.namespace), of(&model.metadata.name));
    let found = model.status.iter().flat_map(|s| &s.conditions);
    let found = found.into_iter().find(|c| c.type_ == type_.as_str());
    let why = match found {
        None => format!("has no condition {type_} yet; see whether the operator runs"),
        // What it says is of the Model before its last change.
        Some(c) if c.observed_generation < model.metadata.generation => {
            format!("{type_} speaks of an older generation; see whether the operator runs")
        }
        Some(c) if c.status == "True" => return None,
        Some(c) => format!("{type_}={} ({}): {}", c.status, c.reason, c.message),
    };
    Some(format!("ModelBooster {namespace}/{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(name: &str, expose: &str, status: &str, observed: i64) -> ModelBooster {
        serde_json::from_value(json!({
            "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelBooster",
            "metadata": {"namespace": "a", "name": name, "generation": 2,
                "annotations": {"kthena-bridge.io/expose": expose}},
            "spec": {},
            "status": {"conditions": [{"type": "Programmed", "status": status, "reason": "R", "message": "m",
                "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap()
    }

    fn stand(names: &[&str], models: &[ModelBooster]) -> Standing {
        let selection = Selection {
            namespace: Some("a".to_owned()),
            names: names.iter().map(|&n| n.to_owned()).collect(),
        };
        standing(&selection, models.iter(), ConditionType::Programmed)
    }

    #[test]
    fn all_that_are_exposed_or_named_have_to_have_it() {
        let good = model("good", "true", "True", 2);
        let bad = model("bad", "true", "False", 2);
        let off = model("off", "false", "True", 2);
        let all = [good, bad, off];
        assert_eq!(stand(&["good"], &all), Standing::Met);
        assert_eq!(stand(&[], &[]), Standing::Met);
        let unmet = |text: &str| Standing::Unmet(vec![text.to_owned()]);
        let said = unmet("ModelBooster a/bad: Programmed=False (R): m");
        assert_eq!(stand(&[], &all), said);
        assert_eq!(stand(&["good", "bad"], &all), said);
        for name in ["off", "gone"] {
            let Standing::Wrong(wrong) = stand(&["good", name], &all) else {
                unreachable!("{name} is not waited for")
            };
            assert!(wrong[0].contains(&format!("a/{name} ")), "{wrong:?}");
        }
    }

    #[test]
    fn what_speaks_of_an_older_generation_does_not_count() {
        let Standing::Unmet(unmet) = stand(&[], &[model("m", "true", "True", 1)]) else {
            unreachable!("it counted")
        };
        assert!(unmet[0].contains("older generation"), "{unmet:?}");
    }
}
