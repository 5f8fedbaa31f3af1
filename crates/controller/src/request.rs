//! Every request has a deadline: kube's client waits for an answer for ever.

use std::time::Duration;

use kthena_bridge_api::FIELD_MANAGER;
use kube::api::{DynamicObject, PatchParams};
use serde_json::{Value, json};

use crate::error::Error;

const LIMIT: Duration = Duration::from_secs(10);

/// Waits for the answer to a request, called `what` in the error.
pub(crate) async fn answer<T>(
    what: impl FnOnce() -> String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    answer_within(LIMIT, what, request).await
}

/// Waits for the answer to a request as long as this.
pub(crate) async fn answer_within<T>(
    limit: Duration,
    what: impl FnOnce() -> String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Request {
            what: what(),
            source: Box::new(source),
        }),
        Err(_) => Err(Error::Timeout {
            what: what(),
            limit,
        }),
    }
}

/// An object as JSON. It came from JSON, so it goes back.
pub(crate) fn to_value(object: DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// A JSON patch of the version that was seen; of another one it is a conflict.
pub(crate) fn patch_of_version(
    what: impl FnOnce() -> String,
    version: &str,
    operations: Vec<Value>,
) -> Result<json_patch::Patch, Error> {
    let mut all =
        vec![json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version})];
    all.extend(operations);
    serde_json::from_value(Value::Array(all)).map_err(|e| Error::Request {
        what: what(),
        source: Box::new(kube::Error::SerdeError(e)),
    })
}

/// The parameters of a patch that is no apply.
pub(crate) fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
