//! What the commands say of ModelExposures.

use serde_json::Value;
use testbed::documents;

use crate::{bed, kthena_bridge};

#[tokio::test]
async fn every_command_knows_an_object() {
    let bed = bed().await;
    let namespace = bed.namespace("object").await.unwrap();
    let here = namespace.name();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let path = [("path", Some("/demo")), ("priority", Some("3"))];
    model.expose("inference-gateway", &path).await.unwrap();

    // What the annotations say, as an object, is applied, and takes over.
    let arguments = ["annotate", "-n", here, "demo", "--as-object"];
    let (code, object, error) = kthena_bridge(&bed, &arguments).await;
    assert_eq!((code, error.as_str()), (0, ""));
    let object = documents(&object).unwrap().remove(0);
    assert_eq!(object["spec"]["path"], "/demo");
    assert_eq!(object["spec"]["objectives"][0]["priority"], 3);
    namespace.apply(&object.to_string()).await.unwrap();
    let (code, text, _) = kthena_bridge(&bed, &["diff", "-n", here, "modelexposure/demo"]).await;
    assert_eq!(
        (code, text.as_str()),
        (2, ""),
        "it is refused while the Model has it"
    );
    let off = ["expose", "gateway", "path", "priority"].map(|key| (key, None));
    model.annotate(&off).await.unwrap();
    let wait = ["status", "-n", here, "mexp/demo", "--wait", "-o", "json"];
    let (code, status, error) = kthena_bridge(&bed, &wait).await;
    assert_eq!((code, error.as_str()), (0, ""));
    let status: Value = serde_json::from_str(&status).unwrap();
    let row = &status["models"][0];
    assert_eq!(row["kind"], "ModelExposure");
    assert_eq!(row["target"], "ModelBooster/demo");
    assert_eq!(row["endpoints"]["ready"], 1);

    let (code, table, _) = kthena_bridge(&bed, &["status", "-n", here]).await;
    assert_eq!(code, 0);
    assert!(table.contains("\nmodelexposure/demo "), "{table}");
    let (code, tree, error) = kthena_bridge(&bed, &["tree", "-n", here, "demo"]).await;
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(tree.starts_with("ModelExposure "), "{tree}");
    assert!(
        tree.contains("HTTPRoute") && !tree.contains("missing"),
        "{tree}"
    );
    let (code, text, _) = kthena_bridge(&bed, &["diff", "-n", here, "mexp/demo"]).await;
    assert_eq!((code, text.as_str()), (0, ""));

    // From files alone.
    let live = model.get().await.unwrap();
    let mut bare = serde_json::to_value(&live).unwrap();
    bare.as_object_mut().unwrap().remove("status");
    let file = bed.dir().join("object.yaml");
    std::fs::write(&file, format!("{bare}\n---\n{object}\n")).unwrap();
    let render = [
        "render",
        "-f",
        file.to_str().unwrap(),
        "--provider",
        "istio",
    ];
    let (code, rendered, _) = kthena_bridge(&bed, &render).await;
    assert_eq!(code, 0);
    let kinds: Vec<Value> = documents(&rendered)
        .unwrap()
        .iter()
        .map(|o| o["kind"].clone())
        .collect();
    assert!(kinds.contains(&"InferenceObjective".into()), "{kinds:?}");
    let (code, text, _) = kthena_bridge(&bed, &["explain", "AlreadyExposed"]).await;
    assert_eq!(code, 0);
    assert!(text.contains("Take one of the two away"), "{text}");
    let (code, crd, _) = kthena_bridge(&bed, &["crds"]).await;
    assert_eq!(code, 0);
    assert_eq!(
        crd,
        testbed::document::read("crds/modelexposures.yaml").unwrap()
    );
}
