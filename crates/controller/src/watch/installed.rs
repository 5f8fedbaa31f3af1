//! Which kinds are installed: the CRDs that there are. Where those may not be read, API discovery tells, to
//! everybody, which resources are served, though not as they come and go.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::PartialObjectMeta;
use kube::core::ObjectMeta;
use kube::runtime::watcher::Event;

use super::{Kind, Watches, map};
use crate::error::Error;
use crate::observe::Crd;
use crate::request::answer;
use crate::retry::jittered;

/// What tells, as a kind.
const CRDS: &str = "CustomResourceDefinition";
const DISCOVERY: &str = "APIResourceList";
/// How often it is asked what is served.
const INTERVAL: Duration = Duration::from_secs(30);
/// How soon it is asked again when there was no answer.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps what is installed. Never ends.
pub(super) async fn follow(watches: &Watches, changed: impl Fn(Event<Crd>)) {
    if watches.cx.caches.is_confined() {
        return ask(watches, watches.client.clone(), changed).await;
    }
    let apis = watches.everywhere::<PartialObjectMeta<CustomResourceDefinition>>(CRDS);
    let crds = watches.follow(CRDS, apis, "", |_, event| {
        changed(map(event, |crd| Crd::from(crd.metadata)));
    });
    crds.await;
}

/// What is followed.
pub(super) fn kind(watches: &Watches) -> &'static str {
    if watches.cx.caches.is_confined() {
        DISCOVERY
    } else {
        CRDS
    }
}

async fn ask(watches: &Watches, client: Client, changed: impl Fn(Event<Crd>)) {
    let pulse = watches.pulses.of(DISCOVERY, "");
    loop {
        let wait = match served(&client).await {
            Ok(crds) => {
                pulse.heard();
                changed(Event::Init);
                for name in crds {
                    let name = Some(name);
                    changed(Event::InitApply(Crd::from(ObjectMeta {
                        name,
                        ..ObjectMeta::default()
                    })));
                }
                changed(Event::InitDone);
                INTERVAL
            }
            Err(error) => {
                pulse.failed();
                watches.cx.metrics.watch_failed(DISCOVERY);
                tracing::warn!(%error, "asking which kinds are served failed; it is tried again");
                RETRY
            }
        };
        tokio::time::sleep(jittered(wait)).await;
    }
}

/// The names of the CRDs of the kinds that are watched, as far as they are served.
async fn served(client: &Client) -> Result<BTreeSet<String>, Error> {
    let kinds: Vec<_> = Kind::all().filter_map(Kind::custom).collect();
    let versions: BTreeSet<&str> = kinds.iter().map(|kind| kind.api_version.as_str()).collect();
    let mut crds = BTreeSet::new();
    for version in versions {
        let what = || format!("list the resources of {version}");
        let resources = match answer(what, client.list_api_group_resources(version)).await {
            Ok(list) => list.resources,
            Err(error) if error.status().is_some_and(|s| s.code == 404) => continue,
            Err(error) => return Err(error),
        };
        let found = kinds.iter().filter(|kind| {
            kind.api_version == version && resources.iter().any(|r| r.name == kind.plural)
        });
        crds.extend(found.map(|kind| format!("{}.{}", kind.plural, kind.group)));
    }
    Ok(crds)
}
