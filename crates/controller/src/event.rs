//! Kubernetes Events on what asks for an exposure, when what is said of it turns.
//!
//! They are published in the background, one after the other, and dropped when there are too many: a
//! reconcile never waits for one.

use futures::channel::mpsc;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ObjectReference;
use kthena_bridge_api::condition::{ConditionType, Reason, Status};
use kthena_bridge_core::Source;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::request::answer;
use crate::status::Transition;

/// How many may wait.
const WAITING: usize = 1024;
/// The API server's limit of an Event's note, in bytes.
/// <https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#event-v1-events-k8s-io>
const NOTE: usize = 1024;

/// Takes Events to publish.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    queue: mpsc::Sender<(ObjectReference, Event)>,
}

impl Events {
    /// The queue, and what publishes from it.
    pub(crate) fn new(client: Client) -> (Self, impl Future<Output = ()>) {
        let (queue, waiting) = mpsc::channel(WAITING);
        (Self { queue }, publish(client, waiting))
    }

    /// Publishes what a person who watches the object wants to hear of.
    pub(crate) fn tell(&self, source: &Source, transitions: &[Transition]) {
        let reference = match source {
            Source::Model(model) => model.object_ref(&()),
            Source::Object(exposure) => exposure.object_ref(&()),
        };
        for event in transitions.iter().filter_map(of) {
            if self
                .queue
                .clone()
                .try_send((reference.clone(), event))
                .is_err()
            {
                tracing::warn!("too many Events wait; one is dropped");
            }
        }
    }
}

async fn publish(
    client: Client,
    mut waiting: impl Stream<Item = (ObjectReference, Event)> + Unpin,
) {
    let recorder = Recorder::new(
        client,
        Reporter {
            controller: "kthena-bridge".to_owned(),
            instance: std::env::var("POD_NAME").ok(),
        },
    );
    while let Some((model, event)) = waiting.next().await {
        let what = || {
            let (namespace, name) = (model.namespace.as_deref(), model.name.as_deref());
            format!(
                "publish an Event on {} {}/{}",
                model.kind.as_deref().unwrap_or_default(),
                namespace.unwrap_or_default(),
                name.unwrap_or_default()
            )
        };
        if let Err(error) = answer(what, recorder.publish(&event, &model)).await {
            tracing::warn!(%error, "an Event is lost");
        }
    }
}

/// The Event of a transition: served, no longer served, or not accepted. What lies between while a Model
/// starts, or a Gateway takes a change in, is in its conditions only.
fn of(transition: &Transition) -> Option<Event> {
    let verdict = &transition.verdict;
    let was = transition.was.as_deref();
    let type_ = match (verdict.reason.condition(), verdict.reason.status()) {
        (ConditionType::Programmed, Status::True) => EventType::Normal,
        (ConditionType::Accepted, Status::False) => EventType::Warning,
        (_, Status::False) if was.is_some_and(|was| was != Status::False.as_str()) => {
            EventType::Warning
        }
        _ => return None,
    };
    Some(Event {
        type_,
        reason: verdict.reason.as_str().to_owned(),
        note: Some(shortened(&verdict.message)),
        action: action(verdict.reason).to_owned(),
        secondary: None,
    })
}

fn action(reason: Reason) -> &'static str {
    match reason.condition() {
        ConditionType::Accepted => "Accept",
        ConditionType::Programmed => "Program",
        ConditionType::Reachable => "Request",
    }
}

fn shortened(note: &str) -> String {
    let end = (0..=NOTE.min(note.len()))
        .rev()
        .find(|end| note.is_char_boundary(*end));
    note[..end.unwrap_or_default()].to_owned()
}

#[cfg(test)]
mod tests {
    use kthena_bridge_core::report::Verdict;

    use super::*;

    fn kind(reason: Reason, was: Option<&str>) -> Option<EventType> {
        let transition = Transition {
            verdict: Verdict {
                reason,
                message: "why".to_owned(),
            },
            was: was.map(str::to_owned),
        };
        of(&transition).map(|event| event.type_)
    }

    #[test]
    fn only_what_turns_is_told() {
        assert_eq!(
            kind(Reason::Programmed, Some("False")),
            Some(EventType::Normal)
        );
        assert_eq!(
            kind(Reason::NoReadyEndpoints, Some("True")),
            Some(EventType::Warning)
        );
        assert_eq!(
            kind(Reason::NoReadyEndpoints, Some("Unknown")),
            Some(EventType::Warning)
        );
        assert_eq!(kind(Reason::Pending, Some("True")), None);
        assert_eq!(
            kind(Reason::RequestFailed, Some("True")),
            Some(EventType::Warning)
        );
        assert_eq!(kind(Reason::WaitingForModel, None), None);
        assert_eq!(kind(Reason::Accepted, None), None);
        assert_eq!(
            kind(Reason::InvalidAnnotation, None),
            Some(EventType::Warning)
        );
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let note = shortened(&"é".repeat(1000));
        assert_eq!(note.len(), 1024);
        assert!(shortened(&format!("a{}", "é".repeat(1000))).len() <= 1024);
    }
}
