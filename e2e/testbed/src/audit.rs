//! What the operator asked the API server for, as the API server recorded it.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

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
    stage: String,
    #[serde(rename = "requestURI")]
    uri: String,
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
        .map(|line| event(line).map(request))
        .collect()
}

/// A request, with its path and query.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What it is.
    pub request: Request,
    /// Its path and query.
    pub uri: String,
}

impl Sent {
    /// Whether it is a watch that begins with all that there is.
    pub fn is_streamed_list(&self) -> bool {
        self.uri.contains("sendInitialEvents=true")
    }

    /// Whether it goes on with a list that began before.
    pub fn is_further_page(&self) -> bool {
        self.request.verb == "list" && self.uri.contains("continue=")
    }
}

/// Reads the log as it grows. Each request once: a watch when it begins, all others when they have ended.
#[derive(Debug)]
pub struct Tail {
    log: PathBuf,
    offset: u64,
}

impl Tail {
    pub(crate) fn of(log: PathBuf) -> Self {
        Self { log, offset: 0 }
    }

    /// What was recorded since it was read last.
    pub fn read(&mut self) -> Result<Vec<Sent>> {
        let what = || format!("reading {}", self.log.display());
        let mut file = std::fs::File::open(&self.log).context(what)?;
        file.seek(SeekFrom::Start(self.offset)).context(what)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).context(what)?;
        // The last line may be half written.
        let complete = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        bytes.truncate(complete);
        self.offset += u64::try_from(complete).unwrap_or_default();
        let mut sent = Vec::new();
        for line in String::from_utf8_lossy(&bytes).lines() {
            let event = event(line)?;
            let counts = if event.verb == "watch" {
                "ResponseStarted"
            } else {
                "ResponseComplete"
            };
            if event.stage == counts {
                let uri = event.uri.clone();
                sent.push(Sent {
                    request: request(event),
                    uri,
                });
            }
        }
        Ok(sent)
    }
}

fn event(line: &str) -> Result<Event> {
    serde_json::from_str(line)
        .map_err(|e| Error::Other(format!("a line of the audit log: {e}: {line}")))
}

fn request(event: Event) -> Request {
    let object = event.object_ref.unwrap_or_default();
    let resource = match object.subresource.as_str() {
        "" => object.resource,
        sub => format!("{}/{sub}", object.resource),
    };
    Request {
        verb: event.verb,
        group: object.api_group,
        resource,
        namespace: object.namespace,
        name: object.name,
        code: event.response_status.unwrap_or_default().code,
    }
}
