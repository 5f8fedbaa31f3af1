//! Every request has a deadline: kube's client waits for an answer for ever.

use std::time::Duration;

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
