//! What happened while the operator was stopped, and what it does when it starts: no more than it must.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use testbed::{OPERATOR, OPERATOR_NAMESPACE, TestBed};

use crate::metrics::samples;
use crate::{
    LIMIT, bed_alone, essences, kthenas_conditions, versions, wait_until_as_before, wait_until_gone,
};

/// The operator's pod.
async fn pod(bed: &TestBed) -> Result<Pod, String> {
    let client = bed.client().map_err(|e| e.to_string())?;
    let pods: Api<Pod> = Api::namespaced(client, OPERATOR_NAMESPACE);
    let found = pods
        .list(&ListParams::default())
        .await
        .map_err(|e| e.to_string())?;
    found
        .items
        .into_iter()
        .next()
        .ok_or_else(|| "the operator has no pod".to_owned())
}

/// Waits until no other test's namespace is on its way out, since the operator works on what goes with it.
pub(crate) async fn wait_for_quiet(bed: &TestBed) {
    let namespaces: Api<Namespace> = Api::all(bed.client().unwrap());
    let looked = bed.wait_for("no namespace is ending", LIMIT, async || {
        let found = namespaces
            .list(&ListParams::default())
            .await
            .map_err(|e| e.to_string())?;
        let ending = found
            .iter()
            .filter(|n| n.metadata.deletion_timestamp.is_some());
        let ending: Vec<_> = ending.filter_map(|n| n.metadata.name.clone()).collect();
        if ending.is_empty() {
            Ok(())
        } else {
            Err(format!("{ending:?}"))
        }
    });
    looked.await.unwrap();
}

#[tokio::test]
async fn a_restart_writes_nothing() {
    let bed = bed_alone().await;
    let namespace = bed.namespace("restart").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let one = namespace.model("one").await.unwrap();
    let two = namespace.model("two").await.unwrap();
    let off = namespace.model("off").await.unwrap();
    one.expose(
        "inference-gateway",
        &[("path", Some("/one")), ("priority", Some("3"))],
    )
    .await
    .unwrap();
    two.expose(
        "inference-gateway",
        &[
            ("path", Some("/two")),
            ("hostnames", Some("two.example.com")),
        ],
    )
    .await
    .unwrap();
    off.wait_for_condition("Active", "True").await.unwrap();
    // What was changed since is recorded differently from what was created.
    two.annotate(&[("hostnames", None), ("request-timeout", Some("10s"))])
        .await
        .unwrap();
    let looked = bed.wait_for("the host name is gone", LIMIT, async || {
        let route = two
            .child(ChildKind::HTTPRoute, "two")
            .await?
            .ok_or("no route")?;
        let spec = &route.data["spec"];
        if spec.get("hostnames").is_none() && spec["rules"][0]["timeouts"]["request"] == "10s" {
            Ok(())
        } else {
            Err(format!("{spec:#}"))
        }
    });
    looked.await.unwrap();
    two.wait_for_condition("Programmed", "True").await.unwrap();
    wait_for_quiet(&bed).await;

    let before = (versions(&one).await, versions(&two).await);
    let conditions = (
        one.get().await.unwrap().status,
        two.get().await.unwrap().status,
    );
    let pod = pod(&bed).await.unwrap().metadata.name.unwrap();
    bed.scale_operator(0).await.unwrap();
    let log = bed.container_log(OPERATOR_NAMESPACE, &pod, OPERATOR);
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.contains("\"stopped\""),
        "it ends what is under way, and then itself: {log}"
    );
    bed.scale_operator(1).await.unwrap();
    let reconciled =
        "controller_runtime_reconcile_total{controller=\"modelbooster\",result=\"success\"}";
    let looked = bed.wait_for("all three Models were looked at", LIMIT, async || {
        let seen = samples(&bed).await?;
        if seen.get(reconciled).is_some_and(|n| *n >= 3.0) {
            Ok(seen)
        } else {
            Err(format!("{seen:#?}"))
        }
    });
    let seen = looked.await.unwrap();
    let writes = seen.iter().filter(|(name, value)| {
        (name.starts_with("kthena_bridge_applies")
            || name.starts_with("kthena_bridge_status_writes"))
            && **value > 0.0
    });
    assert_eq!(writes.collect::<Vec<_>>(), Vec::<(&String, &f64)>::new());
    assert_eq!((versions(&one).await, versions(&two).await), before);
    assert_eq!(
        (
            one.get().await.unwrap().status,
            two.get().await.unwrap().status
        ),
        conditions
    );
}

#[tokio::test]
async fn what_changed_while_the_operator_was_stopped_is_made_good() {
    let bed = bed_alone().await;
    let namespace = bed.namespace("stopped").await.unwrap();
    let first = namespace.gateway("first").await.unwrap();
    let second = namespace.gateway("second").await.unwrap();
    let names = ["unannotated", "moved", "repathed", "deleted", "edited"];
    for name in names {
        namespace.model(name).await.unwrap();
    }
    let mut models = Vec::new();
    for name in names {
        let model = namespace.model(name).await.unwrap();
        model
            .expose("first", &[("path", Some(&format!("/{name}")))])
            .await
            .unwrap();
        models.push(model);
    }
    let [unannotated, moved, repathed, deleted, edited] = &models[..] else {
        panic!("five Models")
    };
    let of_edited = essences(edited).await.unwrap();
    let kthenas = kthenas_conditions(unannotated).await;

    bed.scale_operator(0).await.unwrap();
    unannotated.annotate(&[("expose", None)]).await.unwrap();
    moved
        .annotate(&[("gateway", Some("second"))])
        .await
        .unwrap();
    repathed
        .annotate(&[("path", Some("/another"))])
        .await
        .unwrap();
    deleted.delete().await.unwrap();
    let routes = edited.children_api(ChildKind::HTTPRoute).unwrap();
    let elsewhere = json!({"spec": {"hostnames": ["elsewhere.example.com"]}});
    routes
        .patch("edited", &PatchParams::default(), &Patch::Merge(elsewhere))
        .await
        .unwrap();
    edited
        .children_api(ChildKind::Service)
        .unwrap()
        .delete("edited-epp", &DeleteParams::default())
        .await
        .unwrap();
    bed.scale_operator(1).await.unwrap();

    unannotated.wait_until_withdrawn().await.unwrap();
    assert_eq!(kthenas_conditions(unannotated).await, kthenas);
    bed.wait_for_answer(second, "/moved", "moved", 200)
        .await
        .unwrap();
    bed.wait_for_answer(first, "/moved", "moved", 404)
        .await
        .unwrap();
    bed.wait_for_answer(first, "/another", "repathed", 200)
        .await
        .unwrap();
    bed.wait_for_answer(first, "/repathed", "repathed", 404)
        .await
        .unwrap();
    wait_until_gone(&bed, deleted).await;
    bed.wait_for_answer(first, "/unannotated", "unannotated", 404)
        .await
        .unwrap();
    wait_until_as_before(
        &bed,
        edited,
        &of_edited,
        "the Service is back and the host name gone",
    )
    .await;
}
