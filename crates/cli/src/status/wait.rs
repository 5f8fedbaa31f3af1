//! `kthena-bridge status --wait`: watches, until all that is exposed has a condition.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use kthena_bridge_api::condition::ConditionType;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::{OwnerKind, Source};
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::Selection;
use crate::observe::{self, Named, within};

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
    let config = watcher::Config::default().timeout(WATCH);
    let config = match selection.names.as_slice() {
        [one] => config.fields(&format!("metadata.name={}", Named::of(one).name())),
        _ => config,
    };
    let models = events::<ModelBooster>(client, selection, &config);
    let exposures = events::<ModelExposure>(client, selection, &config);
    let mut events = pin!(stream::select(models, exposures));
    let mut sources: BTreeMap<Key, Source> = BTreeMap::new();
    let mut listed = BTreeSet::new();
    while let Some((kind, event)) = events.next().await {
        match event {
            Ok(Event::Init) => {
                sources.retain(|(other, ..), _| *other != kind);
                listed.remove(&kind);
            }
            Ok(Event::InitApply(source) | Event::Apply(source)) => {
                sources.insert(key(&source), source);
            }
            Ok(Event::Delete(source)) => drop(sources.remove(&key(&source))),
            Ok(Event::InitDone) => drop(listed.insert(kind)),
            Err(watcher::Error::InitialListFailed(error)) => {
                // Annotations do without ModelExposures.
                if kind == OwnerKind::ModelExposure && is_missing(&error) {
                    listed.insert(kind);
                } else {
                    refused(&error, selection)?;
                }
            }
            // The watcher begins anew by itself.
            Err(_) => {}
        }
        if listed.len() < OwnerKind::ALL.len() {
            continue;
        }
        match standing(selection, sources.values().cloned(), condition) {
            Standing::Met => return Ok(Vec::new()),
            Standing::Wrong(wrong) => return Ok(wrong),
            Standing::Unmet(unmet) => *last = unmet,
        }
    }
    Ok(last.clone())
}

/// Kind, namespace and name.
type Key = (OwnerKind, String, String);

fn key(source: &Source) -> Key {
    let owner = source.owner();
    (owner.kind, owner.namespace, owner.name)
}

/// What a watch of a kind says.
fn events<K>(
    client: &Client,
    selection: &Selection,
    config: &watcher::Config,
) -> impl Stream<Item = (OwnerKind, watcher::Result<Event<Source>>)>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
    Source: From<K>,
{
    let api: Api<K> = match &selection.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let kind = OwnerKind::named(&K::kind(&())).unwrap_or_default();
    let events = watcher(api, config.clone()).default_backoff();
    events.map(move |event| (kind, event.map(of_source)))
}

fn of_source<K>(event: Event<K>) -> Event<Source>
where
    Source: From<K>,
{
    match event {
        Event::Apply(object) => Event::Apply(object.into()),
        Event::Delete(object) => Event::Delete(object.into()),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(object.into()),
        Event::InitDone => Event::InitDone,
    }
}

fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 404))
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

fn standing(
    selection: &Selection,
    sources: impl Iterator<Item = Source> + Clone,
    type_: ConditionType,
) -> Standing {
    let (exposed, wrong) = selection.select(sources);
    if !wrong.is_empty() {
        return Standing::Wrong(wrong);
    }
    let unmet: Vec<String> = exposed.iter().filter_map(|s| lacks(s, type_)).collect();
    if unmet.is_empty() {
        Standing::Met
    } else {
        Standing::Unmet(unmet)
    }
}

/// What stands in the way of a condition.
fn lacks(source: &Source, type_: ConditionType) -> Option<String> {
    let mut conditions = source.conditions().iter();
    let found = conditions.find(|c| c.type_ == type_.as_str());
    let why = match found {
        None => format!("has no condition {type_} yet; see whether the operator runs"),
        // What it says is of the Model before its last change.
        Some(c) if c.observed_generation < source.metadata().generation => {
            format!("{type_} speaks of an older generation; see whether the operator runs")
        }
        Some(c) if c.status == "True" => return None,
        Some(c) => format!("{type_}={} ({}): {}", c.status, c.reason, c.message),
    };
    Some(format!("{}: {why}", source.owner()))
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
        let sources = models.iter().cloned().map(Source::from);
        standing(&selection, sources, ConditionType::Programmed)
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
