//! The operator's roles list what it uses, and nothing else.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use kube::api::DynamicObject;
use serde_json::json;
use testbed::{OPERATOR, OPERATOR_NAMESPACE};

use crate::{LIMIT, bed, essences, wait_until_as_before};

/// A right, as a rule of a role names it.
type Right = (String, String, String);

fn granted(rules: impl IntoIterator<Item = PolicyRule>) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                rights.extend(
                    rule.verbs
                        .iter()
                        .map(|verb| (group.clone(), resource.clone(), verb.clone())),
                );
            }
        }
    }
    rights
}

#[tokio::test]
async fn the_roles_list_exactly_what_is_used() {
    let bed = bed().await;
    let namespace = bed.namespace("rights").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model
        .expose("inference-gateway", &[("priority", Some("1"))])
        .await
        .unwrap();
    let before = essences(&model).await.unwrap();

    // Without its label, an object is not watched: it is looked up, and mended.
    model.unlabel_children().await.unwrap();
    wait_until_as_before(&bed, &model, &before, "the labels are back").await;
    // Endpoints are looked at only for endpoint pickers of others.
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine"},
        "spec": {"selector": {"nobody": "has"}, "ports": [{"port": 9002}]}});
    namespace.apply(&service.to_string()).await.unwrap();
    let external = [
        ("endpoint-picker", Some("mine")),
        ("failure-mode", Some("FailClose")),
    ];
    model.annotate(&external).await.unwrap();
    // Not of the endpoint picker that was there before.
    let told = model
        .wait_for_message("Programmed", "/mine ")
        .await
        .unwrap();
    assert_eq!(told.reason, "EndpointPickerNotReady");
    model
        .annotate(&[("endpoint-picker", None), ("failure-mode", None)])
        .await
        .unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    // An Event that comes twice is one, with a count.
    for replicas in [0, 1] {
        model
            .patch(&json!({"spec": {"backend": {"replicas": replicas}}}))
            .await
            .unwrap();
        let status = if replicas == 0 { "False" } else { "True" };
        model
            .wait_for_condition("Programmed", status)
            .await
            .unwrap();
    }
    model.annotate(&[("expose", None)]).await.unwrap();
    model.wait_until_withdrawn().await.unwrap();

    let roles: Api<ClusterRole> = Api::all(bed.client().unwrap());
    let cluster = roles.get(OPERATOR).await.unwrap().rules;
    // For the Lease, in its own namespace.
    let roles: Api<Role> = Api::namespaced(bed.client().unwrap(), OPERATOR_NAMESPACE);
    let own = roles
        .get("kthena-bridge-leader-election")
        .await
        .unwrap()
        .rules;
    let granted = granted(cluster.into_iter().chain(own).flatten());
    let looked = bed.wait_for("every right of the roles was used", LIMIT, async || {
        let requests = bed.audit().map_err(|e| e.to_string())?;
        let used: BTreeSet<Right> = requests
            .iter()
            .map(|r| (r.group.clone(), r.resource.clone(), r.verb.clone()))
            .collect();
        let unused: Vec<_> = granted
            .difference(&used)
            // GKE's kinds cannot be had outside of GKE; binding is no request; and the endpoint picker is
            // neither llm-d's nor behind a NetworkPolicy here. What is watched need not be listed where the API
            // server streams lists, as here.
            .filter(|(group, resource, verb)| {
                let elsewhere = ["networking.gke.io", "llm-d.ai"].contains(&group.as_str());
                let configured =
                    resource == "networkpolicies" && !["list", "watch"].contains(&verb.as_str());
                let watched = (group.clone(), resource.clone(), "watch".to_owned());
                let listed = verb == "list" && used.contains(&watched);
                !elsewhere && !configured && !listed && verb != "bind"
            })
            .collect();
        if unused.is_empty() {
            Ok(requests)
        } else {
            Err(format!("not used: {unused:?}"))
        }
    });
    let requests = looked.await.unwrap();
    let refused: Vec<_> = requests
        .iter()
        .filter(|r| matches!(r.code, 401 | 403))
        .collect();
    // A namespace of another test that ends takes nothing new.
    let lacking = refused
        .into_iter()
        .filter(|r| !granted.contains(&(r.group.clone(), r.resource.clone(), r.verb.clone())));
    assert_eq!(
        lacking.collect::<Vec<_>>(),
        Vec::<&testbed::audit::Request>::new()
    );
}

/// Nobody but the bridge and Kthena writes on the Model, and the bridge only its status.
#[tokio::test]
async fn nothing_of_ours_is_on_a_model_but_its_conditions() {
    let bed = bed().await;
    let namespace = bed.namespace("clean").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    let object: DynamicObject =
        serde_json::from_value(serde_json::to_value(model.get().await.unwrap()).unwrap()).unwrap();
    for entry in object.metadata.managed_fields.unwrap() {
        if entry.manager.as_deref() == Some("kthena-bridge") {
            let fields = entry.fields_v1.unwrap().0;
            let fields = fields.as_object().unwrap();
            assert_eq!(fields.keys().collect::<Vec<_>>(), ["f:status"]);
            let status = fields["f:status"].as_object().unwrap();
            assert_eq!(status.keys().collect::<Vec<_>>(), ["f:conditions"]);
        }
    }
    assert!(object.metadata.finalizers.unwrap_or_default().is_empty());
}
