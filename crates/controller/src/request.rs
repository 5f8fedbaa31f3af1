//! Every request has a deadline: kube's client waits for an answer for ever.

use std::time::Duration;

use kube::api::DynamicObject;
use serde_json::Value;

use crate::error::Error;

const LIMIT: Duration = Duration::from_secs(10);

/// Waits for the answer to a request, called `what` in the error.
pub(crate) async fn answer<T>(
    what: impl FnOnce() -> String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Request {
            what: what(),
            source: Box::new(source),
        }),
        Err(_) => Err(Error::Timeout {
            what: what(),
            limit: LIMIT,
        }),
    }
}

/// An object as JSON. It came from JSON, so it goes back.
pub(crate) fn to_value(object: DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}
