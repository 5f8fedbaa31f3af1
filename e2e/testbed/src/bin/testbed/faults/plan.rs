//! The plans: what goes wrong, and in which step of an exposure's life.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use fault_proxy::{Action, Fault, Refusal, Selector, Verb, WatchFault};
use kthena_bridge_core::OwnerKind;
use testbed::exposed_by;

use super::life::Step;

/// How long a watch is silent: longer than the operator takes for a step.
const SILENCE: Duration = Duration::from_secs(2);
/// Longer than the operator waits for an answer would be of no use; shorter would not be seen.
const DELAY: Duration = Duration::from_secs(3);

/// What goes wrong in one step.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) step: Step,
    pub(crate) name: String,
    pub(crate) faults: Vec<Fault>,
    /// How long watches are silent, where they are.
    pub(crate) silence: Option<Duration>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step.as_str(), self.name)
    }
}

impl Plan {
    fn new(step: Step, name: impl Into<String>, faults: Vec<Fault>) -> Self {
        Self {
            step,
            name: name.into(),
            faults,
            silence: None,
        }
    }

    /// Whether the operator sees what is no longer so: the past, or, while its watch tells nothing, a ModelExposure
    /// that is gone, and with it, by the garbage collector, what it owned.
    pub(crate) fn shows_the_past(&self) -> bool {
        let goes_by_itself =
            exposed_by() == OwnerKind::ModelExposure && self.step == Step::Unannotate;
        self.faults.iter().any(|fault| match fault.what {
            Action::AsOf(_) => true,
            Action::Watch(_) => {
                let resource = fault.at.resource.as_deref();
                goes_by_itself && resource.is_none_or(|resource| resource == "modelexposures")
            }
            _ => false,
        })
    }

    fn silent(self) -> Self {
        Self {
            silence: Some(SILENCE),
            ..self
        }
    }
}

fn fault(at: Selector, what: Action) -> Fault {
    Fault { at, what }
}

/// The operator is killed before and after each of `writes` writes, and the answer to each is lost.
pub(crate) fn crash_points(step: Step, writes: u32) -> Vec<Plan> {
    let actions = [
        ("killed before", Action::CrashBefore),
        ("killed after", Action::CrashAfter),
        ("no answer to", Action::Lose),
    ];
    let plans = (1..=writes).flat_map(|k| {
        let plan = |(what, action)| {
            Plan::new(
                step,
                format!("{what} write {k}"),
                vec![fault(Selector::write(k), action)],
            )
        };
        actions.clone().map(plan)
    });
    plans.collect()
}

/// Requests are refused, not answered, answered late or by half.
pub(crate) fn refusals() -> Vec<Plan> {
    let mut plans = Vec::new();
    for step in [Step::Create, Step::Rename, Step::Unannotate] {
        for code in [409, 410, 429, 500, 503, 504] {
            let refuse = || Action::Refuse(Refusal::with(code));
            let first = vec![fault(Selector::write(1), refuse())];
            plans.push(Plan::new(step, format!("{code} to write 1"), first));
            let all = vec![fault(Selector::write(1).only(1, 5), refuse())];
            plans.push(Plan::new(step, format!("{code} to writes 1 to 5"), all));
            let status = Selector::of(Verb::Patch, "modelboosters").only(1, 2);
            plans.push(Plan::new(
                step,
                format!("{code} to two writes of the status"),
                vec![fault(status, refuse())],
            ));
        }
        for (what, action) in [
            ("reset at", Action::Reset),
            ("half an answer to", Action::Truncate(20)),
            ("no answer at all to", Action::Hang),
            ("a late answer to", Action::Delay(DELAY)),
        ] {
            for k in 1..=3 {
                plans.push(Plan::new(
                    step,
                    format!("{what} write {k}"),
                    vec![fault(Selector::write(k), action.clone())],
                ));
            }
        }
        for (what, code, message) in [
            (
                "a missing right",
                403,
                "User \"operator\" cannot write resource \"any\" in API group \"\"",
            ),
            (
                "an exceeded quota",
                403,
                "exceeded quota: plan, requested: count=1, used: count=1, limited: count=1",
            ),
            (
                "a webhook that denies",
                400,
                "admission webhook \"plan.example.com\" denied the request: no",
            ),
        ] {
            let refusal = Refusal {
                message: message.to_owned(),
                ..Refusal::with(code)
            };
            let twice = Selector::write(1).only(1, 3);
            plans.push(Plan::new(
                step,
                format!("{what}, three times"),
                vec![fault(twice, Action::Refuse(refusal))],
            ));
        }
    }
    plans
}

/// Watches break, fall silent, or show the past.
pub(crate) fn watches(watched: &BTreeSet<String>) -> Vec<Plan> {
    let mut plans = Vec::new();
    let every = u32::try_from(watched.len()).unwrap_or(u32::MAX);
    for step in [
        Step::Create,
        Step::Rename,
        Step::Unannotate,
        Step::Replace,
        Step::Delete,
    ] {
        for resource in watched {
            let once = Selector::of(Verb::Watch, resource).only(1, 1);
            for (what, broken) in [
                ("cut", WatchFault::Cut(0)),
                ("ended", WatchFault::End(0)),
                ("expired", WatchFault::Gone(0)),
                ("cut after an event", WatchFault::Cut(1)),
            ] {
                let faults = vec![fault(once.clone(), Action::Watch(broken))];
                plans.push(Plan::new(
                    step,
                    format!("watch of {resource} {what}"),
                    faults,
                ));
            }
            for (what, broken) in [
                ("silent", WatchFault::Freeze(0)),
                ("misses all", WatchFault::Miss(0)),
            ] {
                let watch = Selector::of(Verb::Watch, resource);
                let faults = vec![fault(watch, Action::Watch(broken))];
                plans.push(Plan::new(step, format!("watch of {resource} {what}"), faults).silent());
            }
            let past = vec![
                fault(Selector::write(1), Action::CrashBefore),
                fault(
                    Selector::of(Verb::List, resource),
                    Action::AsOf(String::new()),
                ),
                fault(
                    Selector::of(Verb::Watch, resource),
                    Action::Watch(WatchFault::Freeze(0)),
                ),
            ];
            plans.push(
                Plan::new(
                    step,
                    format!("killed at write 1, then {resource} of the past"),
                    past,
                )
                .silent(),
            );
        }
        let all = |times| {
            Selector {
                verbs: vec![Verb::Watch],
                ..Selector::all()
            }
            .only(1, times)
        };
        for (what, broken) in [
            ("cut", WatchFault::Cut(0)),
            ("expired", WatchFault::Gone(0)),
        ] {
            plans.push(Plan::new(
                step,
                format!("all watches {what}"),
                vec![fault(all(every), Action::Watch(broken))],
            ));
        }
        for (what, broken) in [
            ("silent", WatchFault::Freeze(0)),
            ("miss all", WatchFault::Miss(0)),
        ] {
            let faults = vec![fault(all(u32::MAX), Action::Watch(broken))];
            plans.push(Plan::new(step, format!("all watches {what}"), faults).silent());
        }
        let outage = vec![
            fault(all(every), Action::Watch(WatchFault::Cut(0))),
            fault(Selector::all().only(every + 1, 40), Action::Reset),
        ];
        plans.push(Plan::new(step, "the API server is away", outage));
    }
    plans
}

/// Lists fail when the operator starts.
pub(crate) fn lists(watched: &BTreeSet<String>) -> Vec<Plan> {
    let mut plans = Vec::new();
    let lists = Selector {
        verbs: vec![Verb::List],
        ..Selector::all()
    };
    plans.push(Plan::new(
        Step::Upgrade,
        "no list is streamed",
        vec![fault(lists, Action::Unstreamed)],
    ));
    for resource in watched {
        let list = Selector::of(Verb::List, resource);
        for (what, action) in [
            ("500", Action::Refuse(Refusal::with(500))),
            ("429", Action::Refuse(Refusal::with(429))),
            ("half an answer", Action::Truncate(20)),
            ("reset", Action::Reset),
        ] {
            let faults = vec![fault(list.clone().only(1, 2), action)];
            plans.push(Plan::new(
                Step::Upgrade,
                format!("two lists of {resource}: {what}"),
                faults,
            ));
        }
        let faults = vec![fault(list.only(1, 1), Action::Hang)];
        plans.push(Plan::new(
            Step::Upgrade,
            format!("no answer to a list of {resource}"),
            faults,
        ));
    }
    plans
}
