//! What has to be so whatever happened, of what was recorded: nothing here asks a cluster. That the end is the same
//! as without a fault, and that what a Model says of itself is so, is told by a [`State`](super::state::State).

use fault_proxy::{Seen, Verb};
use kthena_bridge_api::child::ChildKind;

use super::Expected;
use super::plan::Plan;
use super::recorded::Settled;

/// What was written more often than once more than without a fault; empty when nothing was. How many states a
/// Model goes through depends on the time that each takes, so of its status once more is allowed than there were
/// different things to say, and once for each fault. What is done by a view of the past has to be done again by
/// one of now.
pub(crate) fn excess(settled: &Settled, wanted: &Expected, plan: Option<&Plan>) -> String {
    let stale = u32::from(plan.is_some_and(Plan::shows_the_past));
    let more = settled.writes.iter().filter_map(|(object, times)| {
        if let Some(said) = settled.said.get(object) {
            return (*times > said + 1 + settled.fired)
                .then(|| format!("{object} {times} times, to say {said} different things"));
        }
        let usual = wanted.writes.get(object).copied().unwrap_or_default();
        (*times > usual + 1 + stale)
            .then(|| format!("{object} {times} times, without a fault {usual}"))
    });
    let more: Vec<String> = more.collect();
    if more.is_empty() {
        String::new()
    } else {
        format!("too many writes: {}", more.join("; "))
    }
}

/// What became of what is nobody's business, by kinds, names and versions; empty when nothing did.
pub(crate) fn changed(was: &[(String, String)], now: &[(String, String)]) -> String {
    let changed = was.iter().filter(|object| !now.contains(object));
    let changed: Vec<&str> = changed.map(|(object, _)| object.as_str()).collect();
    if changed.is_empty() {
        String::new()
    } else {
        format!("foreign objects changed: {}", changed.join(", "))
    }
}

/// The first write that is about something that the operator has no business with; empty when there is none.
pub(crate) fn strayed(seen: &[Seen], models: &[String]) -> String {
    let strayed = seen
        .iter()
        .find(|seen| seen.request.writes() && !is_its_own(seen, models));
    strayed.map_or_else(String::new, |seen| {
        format!("it wrote what is not its own: {}", seen.request)
    })
}

fn is_its_own(seen: &Seen, models: &[String]) -> bool {
    let request = &seen.request;
    let child = ChildKind::ALL
        .iter()
        .any(|kind| kind.api_resource().plural == request.resource);
    models.iter().any(|model| {
        if child {
            let picker = format!("{model}-epp");
            (request.name == *model || request.name == picker) && request.subresource.is_empty()
        } else {
            let asks = ["modelboosters", "modelexposures"].contains(&request.resource.as_str());
            asks && (&request.name, request.subresource.as_str()) == (model, "status")
        }
    })
}

/// What is written or listed, beside renewing the Lease; empty when nothing is.
pub(crate) fn asked(seen: &[Seen]) -> String {
    let asked = seen
        .iter()
        .map(|seen| &seen.request)
        .filter(|request| request.verb.writes() || request.verb == Verb::List)
        .filter(|request| request.resource != "leases");
    asked
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use fault_proxy::Request;

    use super::*;
    use crate::faults::recorded::settled as settled_by;
    use crate::faults::state::State;

    fn problem(settled: &Settled) -> String {
        let wanted = Expected {
            state: State::default(),
            writes: BTreeMap::from([(ROUTE.to_owned(), 2)]),
            requests: 2,
        };
        excess(settled, &wanted, None)
    }

    fn settled(object: &str, times: u32, said: &[(&str, u32)], fired: u32) -> Settled {
        let counted = |(object, times): &(&str, u32)| ((*object).to_owned(), *times);
        Settled {
            state: State::default(),
            writes: BTreeMap::from([counted(&(object, times))]),
            said: said.iter().map(counted).collect(),
            requests: times,
            fired,
            took: Duration::ZERO,
        }
    }

    const ROUTE: &str = "patch httproutes/demo";
    const STATUS: &str = "patch modelboosters/demo/status";

    #[test]
    fn once_more_than_needed_is_allowed() {
        assert_eq!(problem(&settled(ROUTE, 3, &[], 1)), "");
        assert_eq!(
            problem(&settled(ROUTE, 4, &[], 9)),
            "too many writes: patch httproutes/demo 4 times, without a fault 2"
        );
    }

    #[test]
    fn a_write_too_many_shows_in_what_was_sent() {
        let told = |times| {
            let sent = vec![seen(Verb::Patch, "httproutes/demo"); times];
            problem(&settled_by(State::default(), &sent, Instant::now()))
        };
        assert_eq!(told(3), "");
        assert_eq!(
            told(4),
            "too many writes: patch httproutes/demo 4 times, without a fault 2"
        );
    }

    #[test]
    fn a_status_is_written_when_there_is_something_else_to_say() {
        let wrote = |times, fired| problem(&settled(STATUS, times, &[(STATUS, 4)], fired));
        assert_eq!(wrote(5, 0), "");
        assert_eq!(wrote(6, 1), "");
        assert_eq!(
            wrote(6, 0),
            "too many writes: patch modelboosters/demo/status 6 times, to say 4 different things"
        );
    }

    fn seen(verb: Verb, object: &str) -> Seen {
        let mut parts = object.split('/').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        Seen {
            request: Request {
                verb,
                group: String::new(),
                resource: part(),
                name: part(),
                subresource: part(),
                namespace: "faults-1".to_owned(),
            },
            body: Vec::new().into(),
            at: Instant::now(),
            action: None,
            code: Some(200),
            refused: None,
        }
    }

    #[test]
    fn what_is_somebody_elses_may_not_change() {
        let of = |version: &str| vec![("ConfigMap foreign".to_owned(), version.to_owned())];
        assert_eq!(changed(&of("1"), &of("1")), "");
        assert_eq!(
            changed(&of("1"), &of("2")),
            "foreign objects changed: ConfigMap foreign"
        );
        assert_eq!(
            changed(&of("1"), &[]),
            "foreign objects changed: ConfigMap foreign"
        );
    }

    #[test]
    fn what_is_somebody_elses_may_not_be_written() {
        let models = ["demo".to_owned()];
        let of = |verb, object| strayed(&[seen(verb, object)], &models);
        for own in [
            "httproutes/demo",
            "services/demo-epp",
            "modelboosters/demo/status",
            "modelexposures/demo/status",
            "events/any",
        ] {
            assert_eq!(of(Verb::Patch, own), "", "{own}");
        }
        assert_eq!(of(Verb::Watch, "configmaps/foreign"), "");
        for foreign in [
            "configmaps/foreign",
            "services/demo-epp/status",
            "modelboosters/demo",
            "modelexposures/demo",
            "pods/demo",
        ] {
            let said = format!("it wrote what is not its own: patch {foreign}");
            assert_eq!(of(Verb::Patch, foreign), said);
        }
    }

    #[test]
    fn who_is_quiet_neither_writes_nor_lists() {
        let of = |verb, object| asked(&[seen(verb, object)]);
        assert_eq!(of(Verb::Watch, "pods"), "");
        assert_eq!(of(Verb::Get, "pods"), "");
        assert_eq!(of(Verb::Update, "leases/kthena-bridge"), "");
        assert_eq!(of(Verb::List, "pods"), "list pods/");
        assert_eq!(of(Verb::Create, "events/any"), "create events/any");
        assert_eq!(
            of(Verb::Patch, "modelboosters/demo/status"),
            "patch modelboosters/demo/status"
        );
    }
}
