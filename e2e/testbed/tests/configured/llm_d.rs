//! llm-d's endpoint picker. It cannot be had as a package, so what is written for it is held against the
//! real API server, and only `llm_ds_picker_serves` runs it.

use std::ffi::OsString;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::DeleteParams;
use testbed::kubelet::ImageMap;
use testbed::{Options, documents};

use super::*;

const KINDS: [(ChildKind, ChildKind); 2] = [
    (
        ChildKind::InferenceObjective,
        ChildKind::LlmDInferenceObjective,
    ),
    (
        ChildKind::InferenceModelRewrite,
        ChildKind::LlmDInferenceModelRewrite,
    ),
];

/// The image that the program of an image stands for, where there is one.
const IMAGE: &str = "registry.example.com/llm-d-router-endpoint-picker";

fn program() -> Option<OsString> {
    std::env::var_os("LLM_D_ENDPOINT_PICKER")
}

/// A bed that knows llm-d's image, where it can.
pub(crate) fn options() -> Options {
    let known = |program: OsString| ImageMap::as_given(&format!("{IMAGE}:*"), program.into());
    Options {
        images: program().map(known).into_iter().collect(),
        ..Options::default()
    }
}

/// llm-d's definitions: at v0.9.0 those of the inference extension v1.5.0 in another group.
async fn install_definitions(bed: &TestBed) {
    let folder = bed.parts().join("crds/inference-extension");
    for (theirs, ours) in KINDS {
        let crd = theirs.crd().unwrap();
        let plural = crd.split('.').next().unwrap().to_owned();
        let file = folder.join(format!("{}_{plural}.yaml", theirs.group()));
        let text = std::fs::read_to_string(&file).unwrap();
        let mut definitions = documents(&text.replace(theirs.group(), ours.group())).unwrap();
        let mut definition = definitions.remove(0);
        definition.as_object_mut().unwrap().remove("status");
        bed.apply("", &definition.to_string()).await.unwrap();
    }
}

/// Another test may have installed them.
async fn remove_definitions(bed: &TestBed) {
    let definitions: Api<CustomResourceDefinition> = Api::all(bed.client().unwrap());
    for (_, ours) in KINDS {
        let name = ours.crd().unwrap();
        let what = format!("the definition {name} is gone");
        let looked = bed.wait_for(&what, LIMIT, async || {
            let found = definitions
                .get_opt(&name)
                .await
                .map_err(|e| e.to_string())?;
            let Some(found) = found else {
                return Ok(());
            };
            let deleted = definitions.delete(&name, &DeleteParams::default()).await;
            Err(format!("{:?}: {deleted:?}", found.status))
        });
        looked.await.unwrap();
    }
}

#[tokio::test]
async fn llm_ds_picker_gets_its_own_kinds_when_they_are_there() {
    let bed = bed("endpointPicker: {flavour: llm-d}").await;
    remove_definitions(&bed).await;
    let namespace = bed.namespace("llm-d").await.unwrap();
    let gateway = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let priority = [("priority", Some("1"))];
    model
        .annotate_exposed("inference-gateway", &priority)
        .await
        .unwrap();
    let missing = model
        .wait_for_reason("Accepted", "MissingKind")
        .await
        .unwrap();
    assert!(missing.message.contains(".llm-d.ai"), "{}", missing.message);

    install_definitions(&bed).await;
    model.wait_for_condition("Accepted", "True").await.unwrap();
    for (theirs, ours) in KINDS {
        wait_for_child(&bed, &model, ours, "demo", |object| {
            object["apiVersion"] == "llm-d.ai/v1alpha2"
        })
        .await;
        assert!(
            model.child(theirs, "demo").await.unwrap().is_none(),
            "{theirs}"
        );
    }
    let image = "ghcr.io/llm-d/llm-d-router-endpoint-picker";
    let looked = bed.wait_for("the image is named", LIMIT, async || {
        let not_ready = model
            .wait_for_reason("Programmed", "EndpointPickerNotReady")
            .await;
        let message = not_ready.map_err(|e| e.to_string())?.message;
        if message.contains(image) {
            Ok(())
        } else {
            Err(message)
        }
    });
    looked.await.unwrap();

    // To the other flavour, with both kinds of definitions there.
    bed.configure_operator("{}").await.unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    bed.wait_for_answer(gateway, "", "demo", 200).await.unwrap();
    for (theirs, ours) in KINDS {
        assert!(
            model.child(theirs, "demo").await.unwrap().is_some(),
            "{theirs}"
        );
        assert!(model.child(ours, "demo").await.unwrap().is_none(), "{ours}");
    }
    let refused: Vec<_> = bed
        .audit()
        .unwrap()
        .into_iter()
        .filter(|r| r.group == "llm-d.ai" && r.code == 403 && r.namespace == namespace.name())
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test]
#[ignore = "LLM_D_ENDPOINT_PICKER has to name the program of an image of llm-d's endpoint picker"]
async fn llm_ds_picker_serves() {
    assert!(program().is_some(), "LLM_D_ENDPOINT_PICKER is not set");
    let config =
        format!("endpointPicker: {{flavour: llm-d, replicas: 2, image: '{IMAGE}:v0.9.0'}}");
    let bed = bed(&config).await;
    install_definitions(&bed).await;
    let namespace = bed.namespace("served-by-llm-d").await.unwrap();
    let gateway = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model
        .expose("inference-gateway", &[("priority", Some("1"))])
        .await
        .unwrap();
    // By the name that only the rewrite knows.
    bed.wait_for_answer(gateway, "", "demo", 200).await.unwrap();
    several::wait_for_leader(&bed, namespace.name(), None).await;
}
