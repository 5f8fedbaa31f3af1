//! One list of situations, and what Argo CD and Flux are to say of each.

use kthena_bridge_api::annotation::EXPOSE;
use kthena_bridge_api::condition::{ConditionType, Reason, Status};
use serde_json::{Value, json};
use testbed::health::{APPLICATION_HEALTH, EXPOSURE_HEALTH, Health, Verdict};

use crate::{judge, models};

const GENERATION: i64 = 3;

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({
        "type": type_,
        "status": status,
        "reason": reason,
        "message": format!("the message of {reason}"),
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

/// A condition of Kthena, which writes no generation into it.
fn kthenas(type_: &str, status: &str) -> Value {
    condition(type_, status, "ModelAvailable")
}

/// A condition of ours.
fn ours(reason: Reason) -> Value {
    let mut ours = condition(
        reason.condition().as_str(),
        reason.status().as_str(),
        reason.as_str(),
    );
    ours["observedGeneration"] = GENERATION.into();
    ours
}

fn model(annotations: &Value, replicas: i64, conditions: &[Value]) -> Value {
    json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelBooster",
        "metadata": {
            "name": "demo",
            "namespace": "default",
            "generation": GENERATION,
            "annotations": annotations,
        },
        "spec": {"backend": {"name": "backend1", "type": "vLLM", "replicas": replicas}},
        "status": {"observedGeneration": GENERATION, "conditions": conditions},
    })
}

fn exposed(replicas: i64, conditions: &[Value]) -> Value {
    model(&json!({EXPOSE: "true"}), replicas, conditions)
}

fn not_exposed(replicas: i64, conditions: &[Value]) -> Value {
    model(&json!({}), replicas, conditions)
}

fn active() -> Value {
    kthenas("Active", "True")
}

/// An exposed Model that is served, but for this reason.
fn served_but(reason: Reason) -> Value {
    let mut conditions = vec![active(), ours(reason)];
    let others = [Reason::Accepted, Reason::Programmed]
        .into_iter()
        .filter(|other| other.condition() != reason.condition());
    conditions.extend(others.map(ours));
    exposed(1, &conditions)
}

/// What a reason means for whoever waits for a sync. A new reason does not compile until it is decided.
#[expect(
    clippy::match_same_arms,
    reason = "an arm holds what is judged alike for the same cause"
)]
fn health_of(reason: Reason) -> Health {
    match reason {
        Reason::Accepted | Reason::Programmed | Reason::Reachable => Health::Healthy,

        // Somebody has to change something.
        Reason::InvalidAnnotation
        | Reason::InvalidSpec
        | Reason::TargetNotFound
        | Reason::AlreadyExposed
        | Reason::GatewayNotSpecified
        | Reason::GatewayNotFound
        | Reason::ListenerNotFound
        | Reason::NotAllowedByListeners
        | Reason::HostnameNotAllowed
        | Reason::RouteConflict
        | Reason::NameConflict
        | Reason::UnsupportedTopology
        | Reason::GatewayNotAllowed
        | Reason::MissingKind
        | Reason::Forbidden => Health::Degraded,

        // The start of every Model and of its endpoint picker, and every moment after a change.
        Reason::WaitingForModel | Reason::EndpointPickerNotReady | Reason::Pending => {
            Health::Progressing
        }
        // Requests may be answered, and nobody knows.
        Reason::NotReported => Health::Progressing,
        // While Kthena says that the Model is active, nobody works on it.
        Reason::NoReadyEndpoints => Health::Degraded,
        Reason::ModelFailed
        | Reason::ServedNameUnknown
        | Reason::PortNotServed
        | Reason::GatewayNotProgrammed
        | Reason::RouteNotAccepted
        | Reason::RouteNotResolved
        | Reason::RouteOutranked
        | Reason::PoolNotAccepted
        | Reason::PoolNotResolved
        | Reason::ApplyFailed => Health::Degraded,

        Reason::RequestFailed => Health::Degraded,
        // The operator could not find out, and Programmed still holds.
        Reason::NotReadable
        | Reason::NotRequested
        | Reason::ConnectionFailed
        | Reason::CertificateNotTrusted
        | Reason::AuthenticationRequired => Health::Healthy,
    }
}

/// Judges all, and names each that is judged otherwise.
fn check(situations: &[(String, Value, Health)]) {
    let objects: Vec<Value> = situations.iter().map(|(_, o, _)| o.clone()).collect();
    let verdicts = models(&objects);
    let wrong: Vec<String> = situations
        .iter()
        .zip(&verdicts)
        .filter_map(|((name, _, health), verdict)| {
            let wrong = verdict.is(*health).err()?;
            Some(format!("{name} {wrong}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_reason_is_judged_on_purpose() {
    let all = Reason::ALL.iter().map(|&reason| {
        (
            reason.as_str().to_owned(),
            served_but(reason),
            health_of(reason),
        )
    });
    check(&all.collect::<Vec<_>>());
}

#[test]
fn a_bad_state_is_told_with_the_message_of_its_condition() {
    let bad: Vec<Reason> = Reason::ALL
        .iter()
        .copied()
        .filter(|reason| health_of(*reason) != Health::Healthy)
        .collect();
    let objects: Vec<Value> = bad.iter().map(|reason| served_but(*reason)).collect();
    for (reason, verdict) in bad.iter().zip(models(&objects)) {
        let (type_, status) = (reason.condition(), reason.status());
        let told = format!("{type_}={status}, {reason}: the message of {reason}");
        assert_eq!(verdict.argo_cd.message, told);
    }
}

#[test]
fn a_model_that_is_not_exposed_is_judged_by_kthenas_conditions_alone() {
    let failed = || condition("Failed", "True", "ModelAbnormal");
    let processing = || kthenas("Active", "False");
    let leftover = || {
        vec![
            ours(Reason::RouteConflict),
            ours(Reason::GatewayNotProgrammed),
        ]
    };
    let with = |more: Vec<Value>, first: Value| [vec![first], more].concat();
    let switched_off = model(&json!({EXPOSE: "false"}), 1, &with(leftover(), active()));
    let situations = [
        ("active", not_exposed(1, &[active()]), Health::Healthy),
        (
            "starting",
            not_exposed(1, &[processing()]),
            Health::Progressing,
        ),
        (
            "new",
            not_exposed(1, &[kthenas("Initialized", "True")]),
            Health::Progressing,
        ),
        (
            "failed",
            not_exposed(1, &[processing(), failed()]),
            Health::Degraded,
        ),
        (
            "failed once, which Kthena never takes back",
            not_exposed(1, &[active(), failed()]),
            Health::Healthy,
        ),
        (
            "our conditions are still there",
            not_exposed(1, &with(leftover(), active())),
            Health::Healthy,
        ),
        ("switched off", switched_off, Health::Healthy),
        (
            "scaled to zero",
            not_exposed(0, &[active()]),
            Health::Suspended,
        ),
        (
            "scaled to zero, not active",
            not_exposed(0, &[processing(), failed()]),
            Health::Suspended,
        ),
    ];
    check(&situations.map(|(name, object, health)| (name.to_owned(), object, health)));
}

#[test]
fn an_exposed_model_is_judged_by_ours() {
    let accepted = || ours(Reason::Accepted);
    let programmed = || ours(Reason::Programmed);
    let not_active = || kthenas("Active", "False");
    let situations = [
        (
            "served",
            exposed(1, &[active(), accepted(), programmed()]),
            Health::Healthy,
        ),
        (
            "served while Kthena is at work",
            exposed(1, &[not_active(), accepted(), programmed()]),
            Health::Healthy,
        ),
        (
            "a switch that is no truth value is an annotation that is refused",
            model(
                &json!({EXPOSE: "yes"}),
                1,
                &[active(), ours(Reason::InvalidAnnotation), programmed()],
            ),
            Health::Degraded,
        ),
        (
            "the bridge has not spoken, or is not there",
            exposed(1, &[active()]),
            Health::Progressing,
        ),
        (
            "half of what the bridge writes",
            exposed(1, &[active(), accepted()]),
            Health::Progressing,
        ),
        (
            "the other half",
            exposed(1, &[active(), programmed()]),
            Health::Progressing,
        ),
        (
            "half, and refused",
            exposed(1, &[active(), ours(Reason::RouteConflict)]),
            Health::Progressing,
        ),
        (
            "no pod, and Kthena is at work",
            exposed(
                1,
                &[not_active(), accepted(), ours(Reason::NoReadyEndpoints)],
            ),
            Health::Progressing,
        ),
        (
            "scaled to zero after it was served",
            exposed(0, &[active(), accepted(), ours(Reason::NoReadyEndpoints)]),
            Health::Suspended,
        ),
        (
            "scaled to zero from the start",
            exposed(
                0,
                &[not_active(), accepted(), ours(Reason::WaitingForModel)],
            ),
            Health::Suspended,
        ),
        (
            "scaled to zero by the spec, and served by somebody who scales",
            exposed(0, &[active(), accepted(), programmed()]),
            Health::Healthy,
        ),
        (
            "scaled to zero, and not accepted",
            exposed(
                0,
                &[
                    active(),
                    ours(Reason::RouteConflict),
                    ours(Reason::NoReadyEndpoints),
                ],
            ),
            Health::Degraded,
        ),
        (
            "scaled to zero, and refused by a Gateway",
            exposed(0, &[active(), accepted(), ours(Reason::RouteNotAccepted)]),
            Health::Degraded,
        ),
    ];
    check(&situations.map(|(name, object, health)| (name.to_owned(), object, health)));
}

#[test]
fn a_request_that_was_sent_counts_for_more_than_silence() {
    let with = |programmed, reachable| {
        let ours = [Reason::Accepted, programmed, reachable].map(ours);
        exposed(1, &[vec![active()], ours.to_vec()].concat())
    };
    let situations = [
        (
            "a Gateway that never reports, and a request that was answered",
            with(Reason::NotReported, Reason::Reachable),
            Health::Healthy,
        ),
        (
            "a Gateway that never reports, and a request that was not answered",
            with(Reason::NotReported, Reason::RequestFailed),
            Health::Degraded,
        ),
        (
            "a request that was answered before the change",
            with(Reason::Pending, Reason::Reachable),
            Health::Progressing,
        ),
        (
            "a request that was not answered before the change",
            with(Reason::Pending, Reason::RequestFailed),
            Health::Progressing,
        ),
        (
            "an answered request does not outweigh a cause",
            with(Reason::RouteOutranked, Reason::Reachable),
            Health::Degraded,
        ),
    ];
    check(&situations.map(|(name, object, health)| (name.to_owned(), object, health)));
}

/// What was said of an older spec counts as nothing, good or bad.
#[test]
fn an_older_generation_is_in_progress() {
    let mut situations = Vec::new();
    for reason in Reason::ALL {
        let mut object = served_but(*reason);
        object["status"]["observedGeneration"] = (GENERATION - 1).into();
        let name = format!("{reason}, and Kthena has not seen the spec");
        situations.push((name, object, Health::Progressing));

        let mut object = served_but(*reason);
        for condition in object["status"]["conditions"].as_array_mut().unwrap() {
            if condition["type"] == reason.condition().as_str() {
                condition["observedGeneration"] = (GENERATION - 1).into();
            }
        }
        let name = format!("{reason} of an older spec");
        situations.push((name, object, Health::Progressing));
    }
    check(&situations);
}

/// Every way to leave something out, at any depth.
fn without_one(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(fields) => fields
            .keys()
            .flat_map(|key| {
                let mut without = fields.clone();
                let removed = without.remove(key).unwrap();
                let deeper = without_one(&removed).into_iter().map(|inner| {
                    let mut with = fields.clone();
                    with.insert(key.clone(), inner);
                    with.into()
                });
                deeper
                    .chain([without.clone().into()])
                    .collect::<Vec<Value>>()
            })
            .collect(),
        Value::Array(items) => (0..items.len())
            .flat_map(|at| {
                let mut without = items.clone();
                let removed = without.remove(at);
                let deeper = without_one(&removed).into_iter().map(|inner| {
                    let mut with = items.clone();
                    with[at] = inner;
                    with.into()
                });
                deeper
                    .chain([without.clone().into()])
                    .collect::<Vec<Value>>()
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Checks that nothing is healthy, nor an error to Argo CD.
fn is_never_healthy(objects: &[Value], verdicts: &[Verdict]) {
    assert_eq!(objects.len(), verdicts.len());
    for (object, verdict) in objects.iter().zip(verdicts) {
        assert_eq!(verdict.argo_cd.error, "", "{object:#}");
        let (argo_cd, flux) = (&verdict.argo_cd.status, &verdict.flux.status);
        assert!(
            ["Progressing", "Degraded"].contains(&argo_cd.as_str()),
            "{argo_cd}: {object:#}"
        );
        // With an error, which is what Flux has for expressions that need what is missing, it goes on waiting.
        let waits = !verdict.flux.error.is_empty();
        assert!(waits || flux != "Current", "{flux}: {object:#}");
    }
}

#[test]
fn whatever_is_missing_is_not_an_error_and_nothing_gets_healthy_by_it() {
    let bad: Vec<Value> = Reason::ALL
        .iter()
        .filter(|reason| health_of(**reason) != Health::Healthy)
        // Without this condition, which not everybody has, the Model is served as far as one knows.
        .filter(|reason| reason.condition() != ConditionType::Reachable)
        .map(|reason| served_but(*reason))
        .collect();
    let mut objects: Vec<Value> = bad.iter().flat_map(without_one).collect();
    // Flux knows the kind by these. Without the annotation it is another question.
    objects.retain(|o| {
        o["kind"].is_string()
            && o["apiVersion"].is_string()
            && o["metadata"]["annotations"][EXPOSE].is_string()
    });
    assert!(objects.len() > 500, "{}", objects.len());
    is_never_healthy(&objects, &models(&objects));
}

#[test]
fn without_a_status_both_wait() {
    let mut object = served_but(Reason::Programmed);
    object.as_object_mut().unwrap().remove("status");
    let nearly_empty = json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": {"name": "demo"},
    });
    for verdict in models(&[object, nearly_empty]) {
        assert_eq!(verdict.argo_cd.status, "Progressing", "{verdict:#?}");
        assert_eq!(verdict.argo_cd.error, "", "{verdict:#?}");
        assert_eq!(verdict.flux.status, "Unknown", "{verdict:#?}");
        assert!(!verdict.flux.error.is_empty(), "{verdict:#?}");
    }
}

#[test]
fn what_stands_in_the_way_is_never_healthy() {
    for reason in Reason::ALL {
        let holds = reason.status() == Status::True;
        assert!(!holds || health_of(*reason) == Health::Healthy, "{reason}");
        let stands_in_the_way = reason.status() == Status::False;
        assert!(
            !stands_in_the_way || health_of(*reason) != Health::Healthy,
            "{reason}"
        );
        let refused = reason.condition() == ConditionType::Accepted && stands_in_the_way;
        assert!(
            !refused || health_of(*reason) == Health::Degraded,
            "{reason}"
        );
    }
}

/// The same conditions on a ModelExposure.
fn as_exposure(mut object: Value) -> Value {
    object["apiVersion"] = "kthena-bridge.io/v1alpha1".into();
    object["kind"] = "ModelExposure".into();
    object["metadata"]["annotations"] = json!({});
    object["spec"] = json!({"targetRef": {"kind": "ModelBooster", "name": "demo"}});
    let conditions = object["status"]["conditions"].as_array_mut().unwrap();
    conditions.retain(|condition| condition["type"] != "Active");
    object
}

#[test]
fn a_model_exposure_is_judged_as_an_exposed_model() {
    let objects: Vec<Value> = Reason::ALL
        .iter()
        .map(|r| as_exposure(served_but(*r)))
        .collect();
    for (reason, verdict) in Reason::ALL.iter().zip(judge(EXPOSURE_HEALTH, &objects)) {
        verdict
            .is(health_of(*reason))
            .unwrap_or_else(|wrong| unreachable!("{reason} {wrong}"));
    }
    let older = objects.into_iter().map(|mut object| {
        object["metadata"]["generation"] = (GENERATION + 1).into();
        object
    });
    let older: Vec<Value> = older.collect();
    for verdict in judge(EXPOSURE_HEALTH, &older) {
        verdict.is(Health::Progressing).unwrap();
    }
}

#[test]
fn a_model_exposure_without_something_is_not_healthy_by_it() {
    let bad = Reason::ALL.iter().filter(|reason| {
        health_of(**reason) != Health::Healthy && reason.condition() != ConditionType::Reachable
    });
    let mut objects: Vec<Value> = bad
        .flat_map(|reason| without_one(&as_exposure(served_but(*reason))))
        .collect();
    objects.retain(|o| o["kind"].is_string() && o["apiVersion"].is_string());
    is_never_healthy(&objects, &judge(EXPOSURE_HEALTH, &objects));
}

#[test]
fn an_application_is_as_healthy_as_argo_cd_says() {
    let application = |status: Value| {
        json!({
            "apiVersion": "workload.serving.volcano.sh/v1alpha1",
            "kind": "ModelBooster",
            "metadata": {"name": "x"},
            "status": status,
        })
    };
    let cases = [
        (json!({}), "Progressing", ""),
        (json!({"health": {}}), "Progressing", ""),
        (json!({"health": {"status": "Healthy"}}), "Healthy", ""),
        (
            json!({"health": {"status": "Degraded", "message": "why"}}),
            "Degraded",
            "why",
        ),
    ];
    let objects: Vec<Value> = cases.iter().map(|(s, ..)| application(s.clone())).collect();
    for ((_, status, message), verdict) in cases.iter().zip(judge(APPLICATION_HEALTH, &objects)) {
        assert_eq!(verdict.argo_cd.error, "");
        assert_eq!(verdict.argo_cd.status, *status);
        assert_eq!(verdict.argo_cd.message, *message);
    }
}
