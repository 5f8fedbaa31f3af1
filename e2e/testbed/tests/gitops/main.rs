//! Models kept in Git, with Argo CD and with Flux: their health, and that neither sees what the bridge does. In a
//! test binary of its own, since its bed has their definitions.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

mod documented;
mod drift;
mod examples;
mod health;
mod kubectl;

use std::time::Duration;

use serde_json::Value;
use testbed::health::{MODEL_HEALTH, Verdict};
use testbed::{TestBed, documents};
use tokio::sync::OnceCell;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_mins(1);

fn read(path: &str) -> String {
    testbed::document::read(path).unwrap()
}

/// What Argo CD, by a script, and Flux say of objects.
fn judge(script: &str, objects: &[Value]) -> Vec<Verdict> {
    testbed::health::judge(script, objects).unwrap()
}

/// What both say of Models.
fn models(objects: &[Value]) -> Vec<Verdict> {
    judge(MODEL_HEALTH, objects)
}

/// The bed with the operator, and with the definitions of Argo CD and Flux.
async fn bed() -> &'static TestBed {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let bed = TestBed::shared().unwrap();
    INSTALLED
        .get_or_init(async || {
            bed.install_operator().await.unwrap();
            let mut definitions = Vec::new();
            for folder in ["argo-cd", "flux"] {
                for file in std::fs::read_dir(bed.parts().join("crds").join(folder)).unwrap() {
                    let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                    definitions.extend(documents(&text).unwrap());
                }
            }
            for definition in &definitions {
                bed.apply("", &definition.to_string()).await.unwrap();
                let name = definition["metadata"]["name"].as_str().unwrap();
                let looked = bed.wait_for(format!("{name} is served"), LIMIT, async || {
                    let crd = kubectl::get(bed, "", "customresourcedefinitions", name).await?;
                    let conditions = crd["status"]["conditions"].as_array();
                    let served = conditions
                        .into_iter()
                        .flatten()
                        .any(|c| c["type"] == "Established" && c["status"] == "True");
                    served
                        .then_some(())
                        .ok_or_else(|| format!("{:#}", crd["status"]))
                });
                looked.await.unwrap();
            }
        })
        .await;
    bed
}
