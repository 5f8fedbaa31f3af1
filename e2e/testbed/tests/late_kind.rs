//! A bed without some of the definitions, which are installed later. In a test binary of its own: the
//! sandbox holds one bed at a time, and the one of an earlier binary must have left nothing in its way.

use kube::Client;
use testbed::{Options, TestBed};

const OBJECTIVES: &str = "inferenceobjectives.inference.networking.x-k8s.io";

async fn is_served(client: &Client) -> bool {
    let version = "inference.networking.x-k8s.io/v1alpha2";
    let served = client
        .list_api_group_resources(version)
        .await
        .map(|list| list.resources);
    served.is_ok_and(|kinds| kinds.iter().any(|kind| kind.kind == "InferenceObjective"))
}

#[tokio::test]
async fn a_definition_can_come_late() {
    let options = Options {
        leave_out_crds: vec![OBJECTIVES.to_owned()],
        ..Options::default()
    };
    let bed = TestBed::start(options).unwrap();
    let client = bed.client().unwrap();
    assert!(!is_served(&client).await);
    bed.install_crds(&[OBJECTIVES]).await.unwrap();
    let limit = std::time::Duration::from_secs(10);
    bed.wait_for("the kind is served", limit, async || {
        if is_served(&client).await {
            Ok(())
        } else {
            Err("it is not".to_owned())
        }
    })
    .await
    .unwrap();
}
