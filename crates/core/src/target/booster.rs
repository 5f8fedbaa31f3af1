//! What serves a ModelBooster: the pods of the ModelServing that Kthena makes for its backend.

use std::collections::BTreeMap;

use kthena_bridge_api::kthena::{
    LABEL_ENTRY, LABEL_MODEL_NAME, LABEL_ROLE, LABEL_SERVING, ModelBackend, ModelBooster,
};

use super::{Engine, Workload, name_the_pods, served_name, target_port, unsupported};
use crate::exposure::Exposure;
use crate::observe::{Child, Cluster, Detail};
use crate::owner::Owner;
use crate::topology::NotAccepted;

pub(super) fn workload(
    model: &ModelBooster,
    exposure: &Exposure,
    owner: &Owner,
    pool: Option<&Child>,
    cluster: &impl Cluster,
) -> Result<Workload, NotAccepted> {
    let name = model.metadata.name.as_deref().unwrap_or_default();
    let namespace = &owner.namespace;
    let serving = serving_name(name, backend(model, exposure, owner)?);
    let selector = match &exposure.pod_selector {
        Some(selector) => selector.clone(),
        None => selector(name, namespace, &serving, pool, cluster),
    };
    // While the pool keeps the pods of a renamed backend, their port and name are those to use.
    let serving = selector.get(LABEL_SERVING).unwrap_or(&serving);
    let role = selector.get(LABEL_ROLE).map_or("leader", String::as_str);
    let served_names = cluster
        .serving(namespace, serving)
        .map(|serving| served_name::of_serving(&serving, role));
    Ok(Workload {
        port: target_port(exposure, cluster.server(namespace, serving).as_deref()),
        served_names: served_names.unwrap_or_default(),
        // The only one that Kthena starts.
        engine: Engine::Vllm,
        selector,
    })
}

/// The one backend whose pods serve; nothing when a pod selector says which do.
fn backend<'a>(
    model: &'a ModelBooster,
    exposure: &Exposure,
    owner: &Owner,
) -> Result<Option<&'a ModelBackend>, NotAccepted> {
    let ways_out = || name_the_pods(owner);
    let backends: Vec<&ModelBackend> = model.spec.backends().collect();
    match backends.as_slice() {
        [one] if exposure.pod_selector.is_some() => Ok(Some(*one)),
        _ if exposure.pod_selector.is_some() => Ok(None),
        [one] if is_disaggregated(one) => Err(unsupported(format!(
            "spec.backend {:?} disaggregates prefill and decode, and a pool of both would send requests to \
             pods that cannot answer them; {}",
            one.name,
            ways_out()
        ))),
        [one] => Ok(Some(*one)),
        [] => Err(unsupported(format!(
            "spec.backend is missing, so there are no pods to send requests to; add it, or {}",
            ways_out()
        ))),
        many => Err(unsupported(format!(
            "spec.backends has {} backends ({}), and one pool would mix their engines; {}",
            many.len(),
            many.iter()
                .map(|b| b.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            ways_out()
        ))),
    }
}

fn is_disaggregated(backend: &ModelBackend) -> bool {
    backend.r#type.ends_with("Disaggregated")
        || backend
            .workers
            .iter()
            .any(|w| matches!(w.r#type.as_str(), "prefill" | "decode"))
}

/// The name that Kthena gives a backend's ModelServing and ModelServer.
/// <https://github.com/volcano-sh/kthena/blob/v1.0.0/pkg/model-booster-controller/utils/template.go>
pub(crate) fn serving_name(model: &str, backend: Option<&ModelBackend>) -> String {
    match backend.map(|b| b.name.as_str()) {
        None | Some("") => model.to_owned(),
        Some(backend) => format!("{model}-{backend}"),
    }
}

/// The pods of a ModelServing that serve HTTP. The label of the Model alone would also select the
/// workers of a multi-node group, which are ready but serve nothing.
pub(crate) fn leader_pods(serving: &str) -> BTreeMap<String, String> {
    [
        (LABEL_SERVING, serving),
        (LABEL_ENTRY, "true"),
        (LABEL_ROLE, "leader"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into()
}

/// The pods of the Model's ModelServing; those of the one before while it has none that is ready. Kthena
/// deletes the one before at once, but its pods go on for a moment.
fn selector(
    model: &str,
    namespace: &str,
    serving: &str,
    pool: Option<&Child>,
    cluster: &impl Cluster,
) -> BTreeMap<String, String> {
    let wanted = leader_pods(serving);
    let Some(Detail::Pool {
        selector: current, ..
    }) = pool.map(|p| &p.detail)
    else {
        return wanted;
    };
    let any_ready = |labels: &BTreeMap<String, String>| {
        let pods = cluster.pods(namespace, labels);
        // Of this Model: an edited selector is no rename.
        let own = BTreeMap::from([(LABEL_MODEL_NAME.to_owned(), model.to_owned())]);
        pods.iter().any(|pod| pod.ready && pod.has(&own))
    };
    let renamed = current
        .get(LABEL_SERVING)
        .is_some_and(|name| *current == leader_pods(name) && name != serving);
    if renamed && !any_ready(&wanted) && any_ready(current) {
        current.clone()
    } else {
        wanted
    }
}
