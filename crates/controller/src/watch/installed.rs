//! Which kinds are installed: the CRDs that there are. Where those may not be read, API discovery tells, to
//! everybody, which resources are served, though not as they come and go.
//! <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PartialObjectMeta;
use kube::core::ObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Api, Client};

use super::{Kind, Watches, map};
use crate::error::Error;
use crate::observe::{Crd, Scope};
use crate::request::answer;
use crate::retry::jittered;

/// How often it is asked what is served.
const INTERVAL: Duration = Duration::from_secs(30);
/// How soon it is asked again when there was no answer.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps what is installed. Never ends.
pub(super) async fn follow(watches: &Watches, changed: impl Fn(Event<Crd>)) {
    let client = watches.client.clone();
    if watches.cx.caches.is_confined() {
        return ask(watches, client, changed).await;
    }
    let api = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client);
    let apis = vec![(Scope::new(), api)];
    let crds = watches.follow("CustomResourceDefinition", apis, "", |_, event| {
        changed(map(event, |crd| Crd::from(crd.metadata)));
    });
    crds.await;
}

async fn ask(watches: &Watches, client: Client, changed: impl Fn(Event<Crd>)) {
    loop {
        let wait = match served(&client).await {
            Ok(crds) => {
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
                watches.cx.metrics.watch_failed("APIResourceList");
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
