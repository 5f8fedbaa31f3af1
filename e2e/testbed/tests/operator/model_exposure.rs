//! What is true of ModelExposures only: what the API server refuses, whose a Model is, and what goes with what.

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::model_exposure::ModelExposureSpec;
use kthena_bridge_core::{Config, Exposure, OwnerKind};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testbed::Model;

use crate::exposures::{api, message, wait_for};
use crate::{LIMIT, bed, kthenas_conditions};

/// Fields that are refused. With a text, that is what the API server says; without, it says what the operator would.
fn invalid() -> Vec<(Value, Option<&'static str>)> {
    let long = "x".repeat(1025);
    vec![
        (json!({"gateways": [{"name": "A"}]}), None),
        (
            json!({"gateways": [{"name": "a", "namespace": "x.y"}]}),
            None,
        ),
        (
            json!({"gateways": [{"name": "a", "sectionName": "_"}]}),
            None,
        ),
        (
            json!({"gateways": [{"namespace": "a"}]}),
            Some("spec.gateways[0].name: Required value"),
        ),
        (
            json!({"gateways": vec![json!({"name": "a"}); 33]}),
            Some("spec.gateways: Too many: 33: must have at most 32 items"),
        ),
        (json!({"hostnames": ["Example.com"]}), None),
        (json!({"hostnames": ["*"]}), None),
        (json!({"hostnames": ["a.*.com"]}), None),
        (json!({"hostnames": ["10.0.0.1"]}), None),
        (
            json!({"hostnames": ["a.example.com", "a.example.com"]}),
            Some("spec.hostnames[1]: Duplicate value: \"a.example.com\""),
        ),
        (json!({"path": "demo"}), None),
        (json!({"path": "/a b"}), None),
        (json!({"path": "/a?b=c"}), None),
        (json!({"path": "/a%2"}), None),
        (json!({"path": "/a%2Fb"}), None),
        (json!({"path": "/a//b"}), None),
        (json!({"path": "/a/../b"}), None),
        (json!({"path": "/a/.."}), None),
        (
            json!({"path": format!("/{long}")}),
            Some("spec.path: Too long: may not be more than 1024 bytes"),
        ),
        (json!({"modelNames": ["a b"]}), None),
        (
            json!({"modelNames": ["a", "a"]}),
            Some("spec.modelNames[1]: Duplicate value: \"a\""),
        ),
        (json!({"objectives": [{"name": "A", "priority": 1}]}), None),
        (
            json!({"objectives": [{"name": "a"}]}),
            Some("spec.objectives[0].priority: Required value"),
        ),
        (
            json!({"objectives": [{"name": "a", "priority": 1}, {"name": "a", "priority": 2}]}),
            Some("spec.objectives[1]: Duplicate value"),
        ),
        (json!({"requestTimeout": "5 minutes"}), None),
        (json!({"requestTimeout": "1h1h1h1h1h"}), None),
        (
            json!({"failureMode": "Fail"}),
            Some("supported values: \"FailOpen\", \"FailClose\""),
        ),
        (
            json!({"endpointPicker": {"managed": {}, "service": {"name": "a"}}}),
            None,
        ),
        (json!({"endpointPicker": {"service": {"name": "A"}}}), None),
        (
            json!({"endpointPicker": {"service": {"name": "a", "port": 0}}}),
            Some("should be greater than or equal to 1"),
        ),
        (
            json!({"endpointPicker": {"managed": {"replicas": 9}}}),
            Some("should be less than or equal to 5"),
        ),
        (
            json!({"endpointPicker": {"managed": {"pluginsConfig": {"plugins": [{"name": "a"}]}}}}),
            Some("spec.endpointPicker.managed.pluginsConfig.plugins[0].type: Required value"),
        ),
        (
            json!({"targetPort": 70_000}),
            Some("should be less than or equal to 65535"),
        ),
        (
            json!({"selector": {"matchLabels": {}}}),
            Some("should have at least 1 properties"),
        ),
        (json!({"selector": {"matchLabels": {"a b": "c"}}}), None),
        (json!({"selector": {"matchLabels": {"a": "b c"}}}), None),
        (
            json!({"targetRef": {"kind": "Model", "name": "demo"}}),
            Some("supported values: \"ModelBooster\", \"ModelServer\""),
        ),
        (
            json!({"targetRef": {"kind": "ModelBooster"}}),
            Some("spec.targetRef.name: Required value"),
        ),
    ]
}

fn exposure(name: &str, fields: &Value) -> Value {
    let mut spec = json!({"targetRef": {"kind": "ModelBooster", "name": "demo"}});
    for (field, value) in fields.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({
        "apiVersion": "kthena-bridge.io/v1alpha1", "kind": "ModelExposure",
        "metadata": {"name": name}, "spec": spec,
    })
}

/// What the operator says of a spec, without the field and the value, which the API server puts otherwise.
fn operators_words(spec: &Value) -> String {
    let spec: ModelExposureSpec = serde_json::from_value(spec.clone()).unwrap();
    let refused = Exposure::of_object("default", "demo", &spec, &Config::default());
    let invalid = refused.unwrap_err();
    let problem = &invalid.0[0].problem;
    // Behind the value in quotes, where the problem begins with it.
    match problem.split_once("\" ") {
        Some((before, after)) if before.starts_with('"') => after.to_owned(),
        _ => problem.clone(),
    }
}

#[tokio::test]
async fn the_api_server_refuses_what_the_operator_would_in_the_same_words() {
    let bed = bed().await;
    let invalid = invalid();
    assert!(invalid.len() >= 30);
    // As kubectl creates it: applied server-side, what is there twice is refused before the schema is asked.
    let resource = OwnerKind::ModelExposure.api_resource();
    let api: Api<DynamicObject> = Api::namespaced_with(bed.client().unwrap(), "default", &resource);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut wrong = Vec::new();
    for (fields, says) in invalid {
        let object = exposure("demo", &fields);
        let says = says.map_or_else(|| operators_words(&object["spec"]), str::to_owned);
        let object = serde_json::from_value(object).unwrap();
        match api.create(&dry_run, &object).await {
            Ok(_) => wrong.push(format!("{fields} is taken")),
            Err(error) if error.to_string().contains(&says) => {}
            Err(error) => wrong.push(format!("{fields}: no {says:?} in: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Who its objects belong to, by kind and name.
async fn owners(model: &Model<'_>) -> Vec<(String, String)> {
    let children = model.children().await.unwrap();
    let owners = children
        .iter()
        .flat_map(|(_, object)| object.metadata.owner_references.iter().flatten());
    let mut owners: Vec<_> = owners
        .map(|owner| (owner.kind.clone(), owner.name.clone()))
        .collect();
    owners.sort();
    owners.dedup();
    owners
}

#[tokio::test]
async fn the_target_cannot_be_changed() {
    let bed = bed().await;
    let namespace = bed.namespace("unchangeable").await.unwrap();
    namespace
        .apply(&exposure("demo", &json!({})).to_string())
        .await
        .unwrap();
    let other = json!({"spec": {"targetRef": {"kind": "ModelBooster", "name": "other"}}});
    let patched = api(&namespace)
        .patch("demo", &PatchParams::default(), &Patch::Merge(&other))
        .await;
    let error = patched.unwrap_err().to_string();
    assert!(
        error.contains("cannot be changed; delete this ModelExposure and make another"),
        "{error}"
    );
}

#[tokio::test]
async fn the_objects_go_with_the_target_and_come_back_with_it() {
    let bed = bed().await;
    let namespace = bed.namespace("target").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let gateways = json!({"gateways": [{"name": "inference-gateway"}]});
    namespace
        .apply(&exposure("public", &gateways).to_string())
        .await
        .unwrap();
    let refused = wait_for(&namespace, "public", "Accepted", "TargetNotFound").await;
    let said = message(&refused, "Accepted");
    assert!(
        said.contains(&format!(
            "ModelBooster {}/demo does not exist",
            namespace.name()
        )),
        "{said}"
    );
    let manifest = bed.example("demo").unwrap();
    for _ in 0..2 {
        let model = namespace.model_from(&manifest).await.unwrap();
        wait_for(&namespace, "public", "Ready", "Programmed").await;
        bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
        // The Model says of itself what the object says of it.
        let accepted = model.wait_for_condition("Accepted", "True").await.unwrap();
        assert!(
            accepted.message.starts_with("ModelExposure public: "),
            "{}",
            accepted.message
        );
        model
            .wait_for_condition("Programmed", "True")
            .await
            .unwrap();
        let public = namespace.model_named("public").unwrap();
        assert_eq!(
            owners(&public).await,
            [("ModelExposure".to_owned(), "public".to_owned())]
        );
        model.delete().await.unwrap();
        wait_for(&namespace, "public", "Accepted", "TargetNotFound").await;
        crate::wait_until_gone(&bed, &public).await;
    }
}

#[tokio::test]
async fn whoever_exposes_a_model_keeps_it() {
    let bed = bed().await;
    let namespace = bed.namespace("already").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.wait_for_condition("Active", "True").await.unwrap();
    let kthenas = kthenas_conditions(&model).await;
    model.expose("inference-gateway", &[]).await.unwrap();
    let gateways = json!({"gateways": [{"name": "inference-gateway"}]});
    namespace
        .apply(&exposure("second", &gateways).to_string())
        .await
        .unwrap();
    let refused = wait_for(&namespace, "second", "Accepted", "AlreadyExposed").await;
    let said = message(&refused, "Accepted");
    let holder = format!(
        "ModelBooster {}/demo is exposed by its annotations already",
        namespace.name()
    );
    assert!(said.starts_with(&holder), "{said}");
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();

    model.annotate(&[("expose", None)]).await.unwrap();
    wait_for(&namespace, "second", "Programmed", "Programmed").await;
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    model.annotate(&[("expose", Some("true"))]).await.unwrap();
    let refused = model
        .wait_for_reason("Accepted", "AlreadyExposed")
        .await
        .unwrap();
    let holder = format!(
        "ModelExposure {}/second exposes this Model already",
        namespace.name()
    );
    assert!(refused.message.starts_with(&holder), "{}", refused.message);
    // It is served all the same.
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();

    api(&namespace)
        .delete("second", &DeleteParams::default())
        .await
        .unwrap();
    model.wait_for_condition("Accepted", "True").await.unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    assert_eq!(
        owners(&model).await,
        [("ModelBooster".to_owned(), "demo".to_owned())]
    );
    model.annotate(&[("expose", None)]).await.unwrap();
    model.wait_until_withdrawn().await.unwrap();
    assert_eq!(kthenas_conditions(&model).await, kthenas);
}

#[tokio::test]
async fn an_object_of_a_models_name_takes_over_from_its_annotations_without_an_outage() {
    let bed = bed().await;
    let namespace = bed.namespace("handover").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model
        .expose("inference-gateway", &[("priority", Some("1"))])
        .await
        .unwrap();
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    let uids = async || {
        let children = model.children().await.unwrap();
        let mut uids: Vec<_> = children
            .into_iter()
            .map(|(kind, o)| (kind, o.metadata.uid))
            .collect();
        uids.sort();
        uids
    };
    let before = uids().await;
    let gateways = json!({"gateways": [{"name": "inference-gateway"}]});
    namespace
        .apply(&exposure("demo", &gateways).to_string())
        .await
        .unwrap();
    wait_for(&namespace, "demo", "Accepted", "AlreadyExposed").await;
    model
        .annotate(&[("expose", None), ("gateway", None), ("priority", None)])
        .await
        .unwrap();
    let taken = wait_for(&namespace, "demo", "Ready", "Programmed");
    let asking = async {
        loop {
            let answer = bed.ask(address, "", "demo").await.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    };
    tokio::select! {
        _ = taken => {}
        () = asking => {}
    }
    assert_eq!(
        owners(&model).await,
        [("ModelExposure".to_owned(), "demo".to_owned())]
    );
    let after = uids().await;
    let kept: Vec<_> = before
        .into_iter()
        .filter(|(kind, _)| *kind != ChildKind::InferenceObjective)
        .collect();
    assert_eq!(
        after, kept,
        "nothing was made anew, and what is not wanted is gone"
    );
}

#[tokio::test]
async fn several_objectives_and_a_picker_of_its_own() {
    let bed = bed().await;
    let namespace = bed.namespace("own").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    namespace.model("demo").await.unwrap();
    let fields = json!({
        "gateways": [{"name": "inference-gateway"}],
        "objectives": [{"name": "interactive", "priority": 10}, {"name": "batch", "priority": -10}],
        "endpointPicker": {"managed": {
            "resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "1Gi"}},
            "pluginsConfig": {
                "plugins": [{"type": "queue-scorer"}, {"type": "max-score-picker"}],
                "schedulingProfiles": [{"name": "default", "plugins": [
                    {"pluginRef": "queue-scorer", "weight": 1}, {"pluginRef": "max-score-picker"}]}],
            },
        }},
    });
    namespace
        .apply(&exposure("demo", &fields).to_string())
        .await
        .unwrap();
    wait_for(&namespace, "demo", "Ready", "Programmed").await;
    let model = namespace.model_named("demo").unwrap();
    for (name, priority) in [("interactive", 10), ("batch", -10)] {
        let objective = model
            .child(ChildKind::InferenceObjective, name)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(objective.data["spec"]["priority"], priority);
    }
    let deployment = model
        .child(ChildKind::Deployment, "demo-epp")
        .await
        .unwrap()
        .unwrap();
    let resources = &deployment.data["spec"]["template"]["spec"]["containers"][0]["resources"];
    assert_eq!(
        resources,
        &json!({"requests": {"cpu": "50m"}, "limits": {"memory": "1Gi"}})
    );
    // One is taken away.
    let fields = json!({"spec": {"objectives": [{"name": "batch", "priority": -10}]}});
    let patch = Patch::Merge(&fields);
    api(&namespace)
        .patch("demo", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let gone = bed.wait_for("the objective is gone", LIMIT, async || {
        match model
            .child(ChildKind::InferenceObjective, "interactive")
            .await?
        {
            None => Ok(()),
            Some(_) => Err("it is there".to_owned()),
        }
    });
    gone.await.unwrap();
    assert!(
        model
            .child(ChildKind::InferenceObjective, "batch")
            .await
            .unwrap()
            .is_some()
    );
}
