//! What the operator asked the API server for, as the API server recorded it.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Context as _, Error, Result};

/// A request of the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `patch`, `delete`, ...
    pub verb: String,
    /// The API group, `""` for the core one.
    pub group: String,
    /// The resource, with its subresource after a slash.
    pub resource: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name; empty for a list, a watch and a create.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
}

impl Request {
    /// Whether it changes something.
    pub fn writes(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// <https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/#audit-k8s-io-v1-Event>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: u16,
}

pub(crate) fn read(log: &Path) -> Result<Vec<Request>> {
    let text = std::fs::read_to_string(log).context(|| format!("reading {}", log.display()))?;
    // The last line may be half written.
    let (complete, _) = text.rsplit_once('\n').unwrap_or_default();
    complete
        .lines()
        .filter(|line| !line.is_empty())
        .map(request)
        .collect()
}

fn request(line: &str) -> Result<Request> {
    let event: Event = serde_json::from_str(line)
        .map_err(|e| Error::Other(format!("a line of the audit log: {e}: {line}")))?;
    let object = event.object_ref.unwrap_or_default();
    let resource = match object.subresource.as_str() {
        "" => object.resource,
        sub => format!("{}/{sub}", object.resource),
    };
    Ok(Request {
        verb: event.verb,
        group: object.api_group,
        resource,
        namespace: object.namespace,
        name: object.name,
        code: event.response_status.unwrap_or_default().code,
    })
}
