//! The operator's configuration, as it changes while the operator runs.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

mod file;
mod llm_d;
mod several;

use std::sync::OnceLock;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;
use testbed::{Model, OPERATOR, OPERATOR_NAMESPACE, TestBed};
use tokio::sync::{Mutex, MutexGuard};

/// How long anything may take here.
const LIMIT: Duration = Duration::from_mins(1);

/// Held by the test whose configuration it is.
static CONFIGURATION: Mutex<()> = Mutex::const_new(());

/// A bed with the operator, whose configuration nobody else changes meanwhile.
struct Bed {
    bed: &'static TestBed,
    _alone: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Bed {
    type Target = TestBed;
    fn deref(&self) -> &TestBed {
        self.bed
    }
}

/// The bed of this test binary.
static BED: OnceLock<TestBed> = OnceLock::new();

/// The bed with an operator that starts with this configuration.
async fn bed(config: &str) -> Bed {
    let alone = CONFIGURATION.lock().await;
    let bed = BED.get_or_init(|| TestBed::start(llm_d::options()).unwrap());
    bed.install_operator().await.unwrap();
    bed.scale_operator(0).await.unwrap();
    bed.configure_operator(config).await.unwrap();
    bed.scale_operator(1).await.unwrap();
    Bed { bed, _alone: alone }
}

/// The pods of a namespace with a label.
async fn pods(bed: &TestBed, namespace: &str, label: &str) -> Result<Vec<Pod>, String> {
    let api: Api<Pod> = Api::namespaced(bed.client().unwrap(), namespace);
    let found = api.list(&ListParams::default().labels(label)).await;
    found.map(|list| list.items).map_err(|e| e.to_string())
}

/// Waits until an object of a Model is as it should be.
async fn wait_for_child(
    bed: &TestBed,
    model: &Model<'_>,
    kind: ChildKind,
    name: &str,
    fits: impl Fn(&Value) -> bool,
) -> DynamicObject {
    let what = format!("{kind} {name} of the Model {}", model.name());
    let looked = bed.wait_for(&what, LIMIT, async || {
        let object = model.child(kind, name).await?;
        let object = object.ok_or("it is not there")?;
        if fits(&serde_json::to_value(&object).map_err(|e| e.to_string())?) {
            return Ok(object);
        }
        Err(format!("{object:#?}"))
    });
    looked.await.unwrap()
}
