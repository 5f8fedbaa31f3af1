//! What serves a ModelServer: the pods that it selects itself, be they a ModelServing's or anybody's.

use std::collections::BTreeMap;

use kthena_bridge_api::annotation;
use kthena_bridge_api::kthena::{LABEL_ENTRY, LABEL_ROLE, LABEL_SERVING, ModelServer};

use super::{Engine, Workload, name_the_pods, served_name, target_port, unsupported};
use crate::exposure::Exposure;
use crate::observe::{Child, Cluster, Detail};
use crate::owner::Owner;
use crate::topology::NotAccepted;

pub(super) fn workload(
    server: &ModelServer,
    exposure: &Exposure,
    owner: &Owner,
    pool: Option<&Child>,
    cluster: &impl Cluster,
) -> Result<Workload, NotAccepted> {
    let spec = &server.spec;
    if spec.workload_port.protocol.as_deref() == Some("https") {
        return Err(unsupported(format!(
            "spec.workloadPort.protocol of ModelServer {} is https, and neither the Gateway nor the endpoint picker \
             speaks TLS to pods; have them serve http on a port of their own, and name that in {}",
            server.metadata.name.as_deref().unwrap_or_default(),
            owner.setting(annotation::TARGET_PORT)
        )));
    }
    let selector = match &exposure.pod_selector {
        Some(selector) => selector.clone(),
        None => selector(server, owner, pool, cluster)?,
    };
    Ok(Workload {
        port: target_port(exposure, Some(server)),
        served_names: served_names(server, &selector, &owner.namespace, cluster),
        engine: match spec.inference_engine.as_str() {
            "SGLang" => Engine::SgLang,
            _ => Engine::Vllm,
        },
        selector,
    })
}

/// The pods that the ModelServer selects; of those of a ModelServing, the ones that serve HTTP.
fn selector(
    server: &ModelServer,
    owner: &Owner,
    pool: Option<&Child>,
    cluster: &impl Cluster,
) -> Result<BTreeMap<String, String>, NotAccepted> {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let of_server = &server.spec.workload_selector;
    if of_server.pd_group.is_some() {
        return Err(unsupported(format!(
            "spec.workloadSelector.pdGroup of ModelServer {name} disaggregates prefill and decode, and a pool of both \
             would send requests to pods that cannot answer them; {}",
            name_the_pods(owner)
        )));
    }
    let mut labels = of_server.match_labels.clone();
    if labels.is_empty() {
        return Err(unsupported(format!(
            "spec.workloadSelector.matchLabels of ModelServer {name} is empty, so there are no pods to send requests \
             to; {}",
            name_the_pods(owner)
        )));
    }
    let pods = cluster.pods(&owner.namespace, &labels);
    // Without any pod nobody knows, and what was so is still right.
    let was_serving = || {
        let Some(Detail::Pool { selector, .. }) = pool.map(|pool| &pool.detail) else {
            return false;
        };
        selector.contains_key(LABEL_ENTRY)
    };
    let is_serving = labels.contains_key(LABEL_SERVING)
        || pods.iter().any(|pod| pod.label(LABEL_SERVING).is_some())
        || (pods.is_empty() && was_serving());
    if is_serving {
        labels.insert(LABEL_ENTRY.to_owned(), "true".to_owned());
    }
    Ok(labels)
}

/// The names in the engine's command, where the pods are a ModelServing's, that of the ModelServer first; else that
/// of the ModelServer.
fn served_names(
    server: &ModelServer,
    selector: &BTreeMap<String, String>,
    namespace: &str,
    cluster: &impl Cluster,
) -> Vec<String> {
    let pods = cluster.pods(namespace, selector);
    let label = |key: &str| {
        let of_pods = || pods.iter().find_map(|pod| pod.label(key));
        selector.get(key).map(String::as_str).or_else(of_pods)
    };
    let said = server.spec.model.iter().filter(|name| !name.is_empty());
    let said: Vec<String> = said.cloned().collect();
    let serving = label(LABEL_SERVING).and_then(|name| cluster.serving(namespace, name));
    let mut served = serving
        .map(|serving| served_name::of_serving(&serving, label(LABEL_ROLE).unwrap_or_default()))
        .unwrap_or_default();
    if served.is_empty() {
        return said;
    }
    served.sort_by_key(|name| !said.contains(name));
    served
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kthena_bridge_api::condition::Reason;
    use kthena_bridge_api::kthena::ModelServing;
    use serde_json::{Value, json};

    use super::*;
    use crate::Config;
    use crate::observe::{Objects, Pod};
    use crate::owner::OwnerKind;

    fn server(spec: &Value) -> ModelServer {
        serde_json::from_value(json!({
            "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelServer",
            "metadata": {"namespace": "default", "name": "chat"}, "spec": spec,
        }))
        .unwrap()
    }

    fn pod(labels: &[(&str, &str)]) -> Arc<Pod> {
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        let labels = labels.into_iter().map(|(k, v)| (k.into(), v.into()));
        let mut pod = Pod {
            labels: labels.collect(),
            ..Pod::default()
        };
        pod.metadata.namespace = "default".into();
        Arc::new(pod)
    }

    fn found(spec: &Value, exposure: &Value, cluster: &Objects) -> Result<Workload, NotAccepted> {
        let owner = Owner {
            kind: OwnerKind::ModelExposure,
            namespace: "default".to_owned(),
            name: "chat".to_owned(),
            ..Owner::default()
        };
        let mut exposure = exposure.clone();
        exposure["targetRef"] = json!({"kind": "ModelServer", "name": "chat"});
        let exposure = serde_json::from_value(exposure).unwrap();
        let config = Config::default();
        let exposure = Exposure::of_object("default", "chat", &exposure, &config).unwrap();
        workload(&server(spec), &exposure, &owner, None, cluster)
    }

    #[test]
    fn the_pods_of_a_deployment_are_those_that_the_server_selects() {
        let spec = json!({"model": "served", "inferenceEngine": "SGLang",
            "workloadSelector": {"matchLabels": {"app": "chat"}}, "workloadPort": {"port": 30000}});
        let cluster = Objects {
            pods: vec![pod(&[("app", "chat")])],
            ..Objects::default()
        };
        let workload = found(&spec, &json!({}), &cluster).unwrap();
        assert_eq!(
            workload.selector,
            BTreeMap::from([("app".to_owned(), "chat".to_owned())])
        );
        assert_eq!((workload.port, workload.engine), (30000, Engine::SgLang));
        assert_eq!(workload.served_names, ["served"]);
        let asked = json!({"targetPort": 8080, "selector": {"matchLabels": {"app": "other"}}});
        let workload = found(&spec, &asked, &cluster).unwrap();
        assert_eq!(
            (workload.port, workload.selector["app"].as_str()),
            (8080, "other")
        );
    }

    #[test]
    fn of_the_pods_of_a_model_serving_those_are_taken_that_serve() {
        let serving: ModelServing = serde_json::from_value(json!({
            "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelServing",
            "metadata": {"namespace": "default", "name": "chat"},
            "spec": {"template": {"roles": [{"name": "main", "entryTemplate": {"spec": {"containers": [
                {"name": "server", "args": ["--model-path", "/weights", "--served-model-name", "a", "b"]}]}}}]}},
        }))
        .unwrap();
        let labels = [
            (LABEL_SERVING, "chat"),
            (LABEL_ENTRY, "true"),
            (LABEL_ROLE, "main"),
            ("app", "chat"),
        ];
        let cluster = Objects {
            servings: vec![Arc::new(serving)],
            pods: vec![pod(&labels)],
            ..Objects::default()
        };
        for selected in [json!({"app": "chat"}), json!({LABEL_SERVING: "chat"})] {
            let spec = json!({"model": "b", "inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": selected}});
            let workload = found(&spec, &json!({}), &cluster).unwrap();
            assert_eq!(workload.selector[LABEL_ENTRY], "true");
            assert_eq!(
                workload.served_names,
                ["b", "a"],
                "the one of the server first"
            );
            assert_eq!(workload.port, 8000);
        }
    }

    #[test]
    fn what_one_pool_cannot_serve_is_refused() {
        let labels = json!({"app": "chat"});
        let pd = json!({"groupKey": "group", "prefillLabels": {}, "decodeLabels": {}});
        let disaggregated = json!({"workloadSelector": {"matchLabels": labels, "pdGroup": pd}});
        let cluster = Objects::default();
        for (spec, says) in [
            (
                disaggregated.clone(),
                "spec.workloadSelector.pdGroup of ModelServer chat",
            ),
            (
                json!({}),
                "spec.workloadSelector.matchLabels of ModelServer chat is empty",
            ),
            (
                json!({"workloadSelector": {"matchLabels": labels}, "workloadPort": {"port": 443, "protocol": "https"}}),
                "spec.workloadPort.protocol of ModelServer chat is https",
            ),
        ] {
            let refused = found(&spec, &json!({}), &cluster).unwrap_err();
            assert_eq!(refused.reason, Reason::UnsupportedTopology);
            assert!(refused.message.starts_with(says), "{}", refused.message);
        }
        let decode = json!({"selector": {"matchLabels": {"role": "decode"}}});
        let workload = found(&disaggregated, &decode, &cluster).unwrap();
        assert_eq!(workload.selector["role"], "decode");
    }
}
