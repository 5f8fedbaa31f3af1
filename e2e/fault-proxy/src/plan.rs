//! What becomes of which request. Nothing here waits, or knows a network.

use std::time::Duration;

use crate::request::{Request, Verb};

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// For which requests.
    pub at: Selector,
    /// What.
    pub what: Action,
}

/// Requests, by what they are and by their number among those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Only these verbs; all when there are none.
    pub verbs: Vec<Verb>,
    /// Only this plural of a kind.
    pub resource: Option<String>,
    /// Only an object whose name ends so.
    pub name: Option<String>,
    /// Only requests that write ([`Request::writes`]).
    pub writes: bool,
    /// The first one of them, counted from 1.
    pub from: u32,
    /// How many.
    pub times: u32,
}

impl Selector {
    /// The `k`th write, counted from 1.
    pub fn write(k: u32) -> Self {
        Self {
            writes: true,
            from: k,
            times: 1,
            ..Self::all()
        }
    }

    /// Every request with this verb for this plural of a kind.
    pub fn of(verb: Verb, resource: &str) -> Self {
        Self {
            verbs: vec![verb],
            resource: Some(resource.to_owned()),
            ..Self::all()
        }
    }

    /// Every request.
    pub fn all() -> Self {
        Self {
            verbs: Vec::new(),
            resource: None,
            name: None,
            writes: false,
            from: 1,
            times: u32::MAX,
        }
    }

    /// Of them only these.
    #[must_use]
    pub fn only(self, from: u32, times: u32) -> Self {
        Self {
            from,
            times,
            ..self
        }
    }

    fn is_about(&self, request: &Request) -> bool {
        (self.verbs.is_empty() || self.verbs.contains(&request.verb))
            && self
                .resource
                .as_ref()
                .is_none_or(|resource| *resource == request.resource)
            && self
                .name
                .as_ref()
                .is_none_or(|name| request.name.ends_with(name.as_str()))
            && (!self.writes || request.writes())
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The client is killed; the request, and all that follow, are not passed on.
    CrashBefore,
    /// The request is passed on and done, and the client is killed before it hears of it.
    CrashAfter,
    /// The request is passed on and done, and the connection is reset instead of an answer.
    Lose,
    /// The connection is reset; nothing is passed on.
    Reset,
    /// Nothing is passed on, and nothing answered.
    Hang,
    /// It is passed on later.
    Delay(Duration),
    /// It is refused; nothing is passed on.
    Refuse(Refusal),
    /// The answer, of what was done, ends after so many bytes, and with it the connection.
    Truncate(usize),
    /// What a watch shows is not what happens.
    Watch(WatchFault),
    /// A list is answered, but not streamed, as by an API server that cannot.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>
    Unstreamed,
    /// A list shows what was in the collection at this resourceVersion.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list>
    AsOf(String),
}

/// An answer of the API server that refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The reason in the Status.
    pub reason: String,
    /// The message in the Status.
    pub message: String,
    /// The header Retry-After, in seconds.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// As the API server refuses with this HTTP status.
    pub fn with(code: u16) -> Self {
        let (reason, retry_after) = match code {
            403 => ("Forbidden", None),
            404 => ("NotFound", None),
            409 => ("Conflict", None),
            410 => ("Expired", None),
            422 => ("Invalid", None),
            429 => ("TooManyRequests", Some(1)),
            503 => ("ServiceUnavailable", None),
            504 => ("Timeout", None),
            _ => ("InternalError", None),
        };
        Self {
            code,
            reason: reason.to_owned(),
            message: format!("the plan refuses this with {code}"),
            retry_after,
        }
    }
}

/// What goes wrong with a watch, as soon as so many events were passed on (bookmarks not counted).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// The connection is reset.
    Cut(u32),
    /// The answer ends, as the API server ends a watch after its time-out.
    End(u32),
    /// An event says that the resourceVersion is too old, and the answer ends.
    Gone(u32),
    /// Nothing comes any more until [`crate::Proxy::thaw`]; then all of it does.
    Freeze(u32),
    /// Nothing comes any more until [`crate::Proxy::thaw`]; then all of it is too old to be told, and only a list shows
    /// what is left of it.
    Miss(u32),
}

/// A plan while it is carried out.
#[derive(Debug, Default)]
pub struct Script {
    faults: Vec<(Fault, u32)>,
}

impl Script {
    /// Begins with a plan: nothing is counted yet.
    pub fn new(faults: Vec<Fault>) -> Self {
        Self {
            faults: faults.into_iter().map(|fault| (fault, 0)).collect(),
        }
    }

    /// What becomes of the next request: by the first fault that is for it. All count it.
    pub fn next(&mut self, request: &Request) -> Option<Action> {
        let mut due = None;
        for (Fault { at, what }, seen) in &mut self.faults {
            if !at.is_about(request) {
                continue;
            }
            *seen = seen.saturating_add(1);
            if due.is_none() && *seen >= at.from && *seen - at.from < at.times {
                due = Some(what.clone());
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;

    fn request(method: &Method, path: &str) -> Request {
        Request::parse(method, path, "")
    }

    fn write(resource: &str) -> Request {
        request(&Method::POST, &format!("/api/v1/namespaces/a/{resource}"))
    }

    #[test]
    fn reads_and_events_are_no_writes() {
        let mut script = Script::new(vec![Fault {
            at: Selector::write(2),
            what: Action::CrashBefore,
        }]);
        assert_eq!(script.next(&write("services")), None);
        assert_eq!(
            script.next(&request(&Method::GET, "/api/v1/namespaces/a/services")),
            None
        );
        assert_eq!(script.next(&write("events")), None);
        assert_eq!(script.next(&write("secrets")), Some(Action::CrashBefore));
        assert_eq!(script.next(&write("secrets")), None);
    }

    #[test]
    fn the_first_fault_for_a_request_wins_and_all_count() {
        let fault = |at, what| Fault { at, what };
        let mut script = Script::new(vec![
            fault(Selector::of(Verb::Create, "services"), Action::Reset),
            fault(Selector::write(2), Action::Hang),
        ]);
        assert_eq!(script.next(&write("services")), Some(Action::Reset));
        assert_eq!(script.next(&write("secrets")), Some(Action::Hang));
    }

    #[test]
    fn an_object_is_picked_by_the_end_of_its_name() {
        let at = Selector {
            name: Some("-epp".to_owned()),
            ..Selector::all()
        };
        let mut script = Script::new(vec![Fault {
            at,
            what: Action::Lose,
        }]);
        let delete = |name: &str| {
            request(
                &Method::DELETE,
                &format!("/api/v1/namespaces/a/services/{name}"),
            )
        };
        assert_eq!(script.next(&delete("demo")), None);
        assert_eq!(script.next(&delete("demo-epp")), Some(Action::Lose));
    }

    proptest! {
        #[test]
        fn so_many_of_them_from_there_on(from in 1_u32..20, times in 0_u32..20, all in 0_u32..50) {
            let at = Selector::write(1).only(from, times);
            let mut script = Script::new(vec![Fault { at, what: Action::Hang }]);
            let hit: Vec<u32> = (1..=all).filter(|_| script.next(&write("services")).is_some()).collect();
            let wanted: Vec<u32> = (from..from + times).filter(|k| *k <= all).collect();
            prop_assert_eq!(hit, wanted);
        }
    }
}
