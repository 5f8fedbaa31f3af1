//! What was seen over time, and what follows from it. No clock and no client here.

use std::fmt;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kthena_bridge_api::annotation;
use kube::api::DynamicObject;
use serde_json::Value;
use testbed::health::{Health, Verdict};

use super::{ABSENT, ANY, Expect, NOT_TRUE};

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether a pod of the Model answered it.
    pub(super) ok: bool,
    /// For a person: the HTTP status, or why there was none.
    pub(super) text: String,
}

/// What asks for the exposure: the Model, or its ModelExposure.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    /// All of it.
    pub(super) object: Value,
    status: Status,
}

impl Asking {
    pub(super) fn new(object: DynamicObject) -> Self {
        let object = serde_json::to_value(object).unwrap_or_default();
        let condition = |type_: &str| {
            let all = object["status"]["conditions"].as_array()?;
            let found = all.iter().find(|condition| condition["type"] == type_)?;
            serde_json::from_value(found.clone()).ok()
        };
        Self {
            status: Status {
                accepted: condition("Accepted"),
                programmed: condition("Programmed"),
            },
            object,
        }
    }

    /// Whether it asks: not a Model without the annotation.
    pub(super) fn asks(&self) -> bool {
        self.object["kind"] != "ModelBooster"
            || self.object["metadata"]["annotations"]
                .get(annotation::EXPOSE)
                .is_some_and(|expose| expose != "false")
    }

    /// Fails where a tool calls it healthy and requests are not answered as it asks, or the other way round. A Model
    /// that is scaled to zero rests.
    pub(super) fn agrees_with(&self, verdict: &Verdict) -> Result<(), String> {
        let holds = |condition: &Option<Condition>| {
            condition
                .as_ref()
                .is_some_and(|condition| condition.status == "True")
        };
        let works = holds(&self.status.accepted) && holds(&self.status.programmed);
        let scaled_to_zero = self.object["spec"]["backend"]["replicas"] == 0;
        let both_say = |health| verdict.is(health).is_ok();
        // Flux goes on waiting where its expressions need what is not there yet.
        let (argo_cd, flux) = (&verdict.argo_cd.status, &verdict.flux.status);
        let has_no_status = self.object["status"].is_null();
        let waits = has_no_status && argo_cd == "Progressing" && flux == "Unknown";
        let agrees = if works {
            both_say(Health::Healthy)
        } else {
            both_say(Health::Progressing)
                || both_say(Health::Degraded)
                || (scaled_to_zero && both_say(Health::Suspended))
                || waits
        };
        if agrees {
            return Ok(());
        }
        Err(format!("its health is not what it says: {verdict:?}"))
    }
}

/// The two conditions of a Model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Status {
    pub(super) accepted: Option<Condition>,
    pub(super) programmed: Option<Condition>,
}

impl Status {
    fn claims_to_work(&self) -> bool {
        self.programmed.as_ref().is_some_and(|c| c.status == "True")
    }

    fn fits(&self, expect: &Expect) -> bool {
        fits(self.accepted.as_ref(), expect.accepted)
            && fits(self.programmed.as_ref(), expect.programmed)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, condition) in [
            ("Accepted", &self.accepted),
            (", Programmed", &self.programmed),
        ] {
            match condition {
                Some(c) if c.status == "True" => write!(f, "{name}=True")?,
                Some(c) => write!(f, "{name}={} {} ({})", c.status, c.reason, c.message)?,
                None => write!(f, "{name}: absent")?,
            }
        }
        Ok(())
    }
}

fn fits(condition: Option<&Condition>, expected: &str) -> bool {
    match (expected, condition) {
        (ANY, _) | (ABSENT, None) => true,
        (NOT_TRUE, condition) => condition.is_none_or(|c| c.status != "True"),
        // The reason of True is the condition's own name.
        (reason, Some(c)) => c.reason == reason && (c.status == "True") == (c.type_ == reason),
        (_, None) => false,
    }
}

/// Requests and Programmed said different things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Disagreement {
    pub(super) lasted: Duration,
    /// Programmed said True.
    pub(super) claimed: bool,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.claimed {
            "requests failed and Programmed was True"
        } else {
            "requests were answered and Programmed was not True"
        };
        write!(f, "for {:.1?} {what}", self.lasted)
    }
}

/// Requests and statuses in the order in which they were seen.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    answers: Vec<(Instant, Answer)>,
    /// Only those that differ from the one before.
    statuses: Vec<(Instant, Status)>,
    /// As it was read last; nothing when it is not there.
    asking: Option<Asking>,
}

/// Since when a timeline is as it is expected to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AsExpected {
    pub(super) request: Instant,
    pub(super) status: Instant,
}

impl Timeline {
    /// A request that failed counts from its start, one that was answered from its end.
    pub(super) fn answered(&mut self, at: Instant, answer: Answer) {
        self.answers.push((at, answer));
    }

    pub(super) fn read(&mut self, at: Instant, asking: Option<Asking>) {
        let status = asking.as_ref().map(|asking| asking.status.clone());
        self.says(at, status.unwrap_or_default());
        self.asking = asking;
    }

    fn says(&mut self, at: Instant, status: Status) {
        if self.statuses.last().is_none_or(|(_, last)| *last != status) {
            self.statuses.push((at, status));
        }
    }

    pub(super) fn asking(&self) -> Option<&Asking> {
        self.asking.as_ref()
    }

    pub(super) fn last_answer(&self) -> Option<&Answer> {
        self.answers.last().map(|(_, answer)| answer)
    }

    pub(super) fn last_status(&self) -> Option<&Status> {
        self.statuses.last().map(|(_, status)| status)
    }

    /// What changed and when, the last of it: for a person who looks for the reason.
    pub(super) fn history(&self) -> Vec<String> {
        const SHOWN: usize = 16;
        let mut events: Vec<(Instant, String)> = Vec::new();
        let mut last = "";
        for (at, answer) in &self.answers {
            if answer.text != last {
                last = &answer.text;
                events.push((*at, format!("request: {last}")));
            }
        }
        let mut last = String::new();
        for (at, status) in &self.statuses {
            let said = status.to_string();
            if said != last {
                events.push((*at, said.clone()));
                last = said;
            }
        }
        events.sort_by_key(|(at, _)| *at);
        let first = self.answers.iter().map(|(at, _)| *at).next();
        let seconds = |at: Instant| {
            first.map_or(0.0, |first| {
                at.saturating_duration_since(first).as_secs_f64()
            })
        };
        let shown = events.iter().skip(events.len().saturating_sub(SHOWN));
        shown
            .map(|(at, event)| format!("{:>6.2} s {event}", seconds(*at)))
            .collect()
    }

    /// Since when everything has been as expected without a break, but not before `from`.
    pub(super) fn as_expected(&self, expect: &Expect, from: Instant) -> Option<AsExpected> {
        let request = since(&self.answers, |answer| answer.ok == expect.answered)?;
        let status = since(&self.statuses, |status| status.fits(expect))?;
        Some(AsExpected {
            request: request.max(from),
            status: status.max(from),
        })
    }

    /// The longest time between `from` and `until` in which Programmed said True and requests failed, or
    /// the other way round.
    pub(super) fn longest_disagreement(&self, from: Instant, until: Instant) -> Disagreement {
        enum Seen {
            Request(bool),
            Claim(bool),
        }
        let requests = self
            .answers
            .iter()
            .map(|(at, a)| (*at, Seen::Request(a.ok)));
        let claims = self
            .statuses
            .iter()
            .map(|(at, s)| (*at, Seen::Claim(s.claims_to_work())));
        let mut events: Vec<(Instant, Seen)> = requests.chain(claims).collect();
        events.sort_by_key(|(at, _)| *at);
        let (mut works, mut claimed) = (None, None);
        let mut since: Option<(Instant, bool)> = None;
        let mut longest = Disagreement::default();
        let mut close = |(since, claimed): (Instant, bool), at: Instant| {
            let lasted = at.min(until).saturating_duration_since(since.max(from));
            if lasted > longest.lasted {
                longest = Disagreement { lasted, claimed };
            }
        };
        for (at, event) in events {
            match event {
                Seen::Request(ok) => works = Some(ok),
                Seen::Claim(claim) => claimed = Some(claim),
            }
            let claims = match (works, claimed) {
                (Some(works), Some(claimed)) if works != claimed => Some(claimed),
                _ => None,
            };
            // One kind of disagreement may turn into the other.
            if let Some(began) = since
                && claims != Some(began.1)
            {
                close(began, at);
                since = None;
            }
            if since.is_none() {
                since = claims.map(|claimed| (at, claimed));
            }
        }
        if let Some(began) = since {
            close(began, until);
        }
        longest
    }
}

/// When the run that lasts until now began.
fn since<T>(seen: &[(Instant, T)], fits: impl Fn(&T) -> bool) -> Option<Instant> {
    let run = seen.iter().rev().take_while(|(_, value)| fits(value));
    run.last().map(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        serde_json::from_value(serde_json::json!({
            "type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    fn status(programmed: &str, reason: &str) -> Status {
        Status {
            accepted: Some(condition("Accepted", "True", "Accepted")),
            programmed: Some(condition("Programmed", programmed, reason)),
        }
    }

    fn answer(ok: bool) -> Answer {
        let text = if ok { "200" } else { "503" };
        Answer {
            ok,
            text: text.to_owned(),
        }
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn the_longest_disagreement_is_found_in_both_directions_and_clipped() {
        let start = Instant::now();
        let mut timeline = Timeline::default();
        timeline.answered(start, answer(true));
        timeline.says(start, status("True", "Programmed"));
        // For 300 ms it says True and fails.
        timeline.answered(after(start, 1_000), answer(false));
        timeline.says(after(start, 1_300), status("False", "NoReadyEndpoints"));
        // For 700 ms it says False and answers.
        timeline.answered(after(start, 2_000), answer(true));
        timeline.says(after(start, 2_700), status("True", "Programmed"));
        let longest = |from, until| {
            let (from, until) = (after(start, from), after(start, until));
            let found = timeline.longest_disagreement(from, until);
            (found.lasted.as_millis(), found.claimed)
        };
        assert_eq!(longest(0, 9_000), (700, false));
        assert_eq!(longest(0, 1_900), (300, true));
        assert_eq!(longest(0, 2_500), (500, false));
        assert_eq!(longest(2_600, 9_000), (100, false));
        assert_eq!(longest(3_000, 9_000).0, 0);
    }

    #[test]
    fn a_disagreement_that_lasts_counts_until_the_end() {
        let start = Instant::now();
        let mut timeline = Timeline::default();
        timeline.says(start, status("True", "Programmed"));
        timeline.answered(after(start, 100), answer(false));
        let longest = timeline.longest_disagreement(start, after(start, 9_100));
        assert_eq!(
            (longest.lasted, longest.claimed),
            (Duration::from_secs(9), true)
        );
    }

    #[test]
    fn what_is_expected_counts_from_the_start_of_its_last_run() {
        let start = Instant::now();
        let expect = Expect {
            answered: false,
            accepted: "Accepted",
            programmed: "NoReadyEndpoints",
        };
        let mut timeline = Timeline::default();
        timeline.answered(start, answer(false));
        timeline.says(start, status("True", "Programmed"));
        assert_eq!(timeline.as_expected(&expect, start), None);
        timeline.says(after(start, 10), status("False", "Pending"));
        assert_eq!(timeline.as_expected(&expect, start), None);
        timeline.says(after(start, 20), status("False", "NoReadyEndpoints"));
        timeline.answered(after(start, 30), answer(true));
        assert_eq!(timeline.as_expected(&expect, start), None);
        timeline.answered(after(start, 40), answer(false));
        timeline.answered(after(start, 50), answer(false));
        let as_expected = timeline.as_expected(&expect, start).unwrap();
        assert_eq!(as_expected.request, after(start, 40));
        assert_eq!(as_expected.status, after(start, 20));
    }

    #[test]
    fn a_reason_implies_its_status() {
        assert!(fits(
            Some(&condition("Programmed", "True", "Programmed")),
            "Programmed"
        ));
        assert!(!fits(
            Some(&condition("Programmed", "False", "Programmed")),
            "Programmed"
        ));
        assert!(fits(
            Some(&condition("Programmed", "Unknown", "Pending")),
            "Pending"
        ));
        assert!(!fits(
            Some(&condition("Programmed", "True", "Pending")),
            "Pending"
        ));
        assert!(fits(None, ABSENT) && fits(None, NOT_TRUE) && fits(None, ANY));
        assert!(!fits(
            Some(&condition("Programmed", "True", "Programmed")),
            NOT_TRUE
        ));
    }

    fn asking(accepted: &str, programmed: &str, replicas: u8) -> Asking {
        let object = serde_json::json!({
            "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelBooster",
            "metadata": {"name": "demo", "annotations": {annotation::EXPOSE: "true"}},
            "spec": {"backend": {"replicas": replicas}},
            "status": {"conditions": [
                condition("Accepted", accepted, "Any"), condition("Programmed", programmed, "Any"),
            ]},
        });
        Asking::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn tools_may_call_healthy_what_works_and_nothing_else() {
        let agrees = |asking: &Asking, argo_cd: &str, flux: &str| {
            let said =
                |status: &str| serde_json::json!({"status": status, "message": "", "error": ""});
            let verdict = serde_json::json!({"argoCD": said(argo_cd), "flux": said(flux)});
            let verdict = serde_json::from_value(verdict).unwrap();
            asking.agrees_with(&verdict).is_ok()
        };
        let works = asking("True", "True", 1);
        assert!(works.asks());
        assert!(agrees(&works, "Healthy", "Current"));
        for (argo_cd, flux) in [("Degraded", "Failed"), ("Progressing", "InProgress")] {
            assert!(!agrees(&works, argo_cd, flux));
            for broken in [asking("True", "False", 1), asking("False", "True", 1)] {
                assert!(agrees(&broken, argo_cd, flux));
                assert!(!agrees(&broken, argo_cd, "Current"), "they disagree");
                assert!(!agrees(&broken, "Healthy", "Current"));
                assert!(!agrees(&broken, "Suspended", "Current"));
            }
        }
        assert!(agrees(&asking("True", "False", 0), "Suspended", "Current"));
        assert!(!agrees(&works, "Progressing", "Unknown"));
        let mut silent = works;
        silent.object["status"].take();
        silent.status = Status::default();
        assert!(agrees(&silent, "Progressing", "Unknown"));
    }
}
