//! Gateways, and what their implementations need and cannot do.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kthena_bridge_api::gateway::Gateway;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::Exposure;
use kthena_bridge_core::provider::{self, Provider};
use kube::ResourceExt as _;

use super::facts::{Facts, Workload};
use super::kubernetes::is_served;
use super::report::{Category, Check, Subject};
use super::version::Version;
use super::{names, unknown};

/// What makes istiod route to InferencePools.
const ISTIO_FLAG: &str = "ENABLE_GATEWAY_API_INFERENCE_EXTENSION";

/// A Gateway with its implementation; none where its class does not exist.
struct Known<'a> {
    called: String,
    gateway: &'a Gateway,
    provider: Option<&'static Provider>,
}

pub(super) fn category(facts: &Facts) -> Category {
    Category {
        name: "gateways",
        checks: checks(facts),
    }
}

fn checks(facts: &Facts) -> Vec<Check> {
    let gateways = match &facts.gateways {
        Ok(gateways) => gateways,
        Err(why) => return vec![unknown(Subject::Gateways, "Gateways", why)],
    };
    let classes = match &facts.classes {
        Ok(classes) => classes,
        Err(why) => return vec![unknown(Subject::GatewayClass, "GatewayClasses", why)],
    };
    if gateways.is_empty() {
        return vec![Check::warning(
            Subject::Gateways,
            "there is no Gateway",
            "Models are exposed through one. Make one, with an HTTP or HTTPS listener that takes routes of the \
             Models' namespaces.",
        )];
    }
    let known: Vec<Known<'_>> = gateways
        .iter()
        .map(|gateway| {
            let class = classes
                .iter()
                .find(|c| c.name_any() == gateway.spec.gateway_class_name);
            Known {
                called: format!(
                    "{}/{}",
                    gateway.namespace().unwrap_or_default(),
                    gateway.name_any()
                ),
                gateway,
                provider: class.map(|c| Provider::of_controller(&c.spec.controller_name)),
            }
        })
        .collect();
    let mut checks = Vec::new();
    let classless: Vec<&str> = known
        .iter()
        .filter(|k| k.provider.is_none())
        .map(|k| &*k.called)
        .collect();
    if !classless.is_empty() {
        checks.push(Check::warning(
            Subject::GatewayClass,
            format!("the GatewayClass of {} does not exist", names(&classless)),
            "Nobody serves such a Gateway.\nkubectl get gatewayclasses",
        ));
    }
    let mut by_provider: BTreeMap<&str, (&'static Provider, Vec<&Known<'_>>)> = BTreeMap::new();
    for one in &known {
        if let Some(provider) = one.provider {
            let entry = by_provider
                .entry(provider.name)
                .or_insert((provider, Vec::new()));
            entry.1.push(one);
        }
    }
    for (provider, gateways) in by_provider.values() {
        of_provider(&mut checks, facts, provider, gateways);
    }
    checks
}

/// All checks of the Gateways of one implementation.
fn of_provider(
    checks: &mut Vec<Check>,
    facts: &Facts,
    provider: &'static Provider,
    gateways: &[&Known<'_>],
) {
    programmed(checks, provider, gateways, &used(facts));
    for kind in provider.objects {
        let resource = kind.api_resource();
        if facts.served.is_ok()
            && !is_served(
                &facts.served,
                &resource.group,
                &resource.version,
                &resource.plural,
            )
        {
            checks.push(Check::failed(
                Subject::GatewayKinds,
                format!(
                    "{} needs {kind}, which is not served: {}.{} in {}",
                    provider.name, resource.plural, resource.group, resource.version
                ),
                format!("Install the CRDs of {}.", provider.name),
            ));
        }
    }
    if let Some(note) = provider.note {
        let all: Vec<&str> = gateways.iter().map(|g| &*g.called).collect();
        checks.push(Check::warning(
            Subject::GatewayLimits,
            format!("{} has limits: {}", provider.name, names(&all)),
            format!("{note}."),
        ));
    }
    if [provider::ISTIO.name, provider::ISTIO_AGENTGATEWAY.name].contains(&provider.name) {
        istio(checks, facts);
    }
}

/// Whether Gateways are programmed. One that is not does no harm to Models on others.
fn programmed(
    checks: &mut Vec<Check>,
    provider: &Provider,
    gateways: &[&Known<'_>],
    used: &BTreeSet<String>,
) {
    let mut fine = Vec::new();
    for known in gateways {
        let class = &known.gateway.spec.gateway_class_name;
        if let Some(served) = provider.class.filter(|served| served != class) {
            checks.push(Check::failed(
                Subject::GatewayClass,
                format!("Gateway {} is of the class {class}", known.called),
                format!(
                    "{} serves the class {served} only. Name that one in the Gateway.",
                    provider.name
                ),
            ));
            continue;
        }
        let listeners = &known.gateway.spec.listeners;
        if !listeners
            .iter()
            .any(|l| matches!(l.protocol.as_str(), "HTTP" | "HTTPS"))
        {
            checks.push(Check::warning(
                Subject::GatewayProgrammed,
                format!("Gateway {} has no HTTP or HTTPS listener", known.called),
                "Models cannot be exposed on it.",
            ));
            continue;
        }
        match not_programmed(known.gateway).filter(|_| provider.reports) {
            None => fine.push(&*known.called),
            Some(why) => {
                let said = format!("Gateway {} is not programmed: {why}", known.called);
                let hint = format!(
                    "A Model on it is not served.\nkubectl -n {} describe gateway {}",
                    known.gateway.namespace().unwrap_or_default(),
                    known.gateway.name_any()
                );
                checks.push(if used.contains(&known.called) {
                    Check::failed(Subject::GatewayProgrammed, said, hint)
                } else {
                    Check::warning(Subject::GatewayProgrammed, said, hint)
                });
            }
        }
    }
    if !fine.is_empty() {
        let are = if provider.reports {
            "programmed"
        } else {
            "there (it writes no status)"
        };
        checks.push(Check::ok(
            Subject::GatewayProgrammed,
            format!("Gateways of {}, {are}: {}", provider.name, names(&fine)),
        ));
    }
}

/// The Gateways that exposed Models ask for, as `namespace/name`.
fn used(facts: &Facts) -> BTreeSet<String> {
    let Some(installed) = &facts.installed else {
        return BTreeSet::new();
    };
    let config = installed.config.clone().unwrap_or_default();
    let gateways = |model: &ModelBooster| {
        let annotations = model.annotations();
        let namespace = model.namespace().unwrap_or_default();
        let parsed = Exposure::parse(&namespace, &model.name_any(), annotations, &config);
        parsed.ok().flatten().map_or_else(Vec::new, |e| e.gateways)
    };
    let models = installed.models.iter().flatten();
    models
        .flat_map(gateways)
        .map(|gateway| format!("{}/{}", gateway.namespace, gateway.name))
        .collect()
}

/// Why a Gateway is not programmed; nothing when it is.
fn not_programmed(gateway: &Gateway) -> Option<String> {
    let conditions = gateway.status.iter().flat_map(|status| &status.conditions);
    match conditions.into_iter().find(|c| c.type_ == "Programmed") {
        Some(Condition { status, .. }) if status == "True" => None,
        Some(Condition {
            reason, message, ..
        }) => Some(format!("{reason}: {message}")),
        None => Some("its controller has not reported".to_owned()),
    }
}

/// Whether istiod routes to InferencePools.
fn istio(checks: &mut Vec<Check>, facts: &Facts) {
    // Two implementations are one istiod.
    if checks.iter().any(|c| c.subject == Subject::IstioInference) {
        return;
    }
    let istiods = match &facts.istiod {
        Ok(istiods) => istiods,
        Err(why) => {
            checks.push(unknown(Subject::IstioInference, "istiod", why));
            return;
        }
    };
    if istiods.is_empty() {
        checks.push(Check::warning(
            Subject::IstioInference,
            "there is no Deployment with the label app=istiod",
            format!("Where istiod runs elsewhere, see that its environment has {ISTIO_FLAG}=true."),
        ));
    }
    for istiod in istiods {
        let called = format!("{}/{}", istiod.namespace, istiod.name);
        let on = istiod
            .environment
            .get(ISTIO_FLAG)
            .is_some_and(|value| value == "true");
        checks.push(if on {
            Check::ok(
                Subject::IstioInference,
                format!("istiod {called} routes to InferencePools"),
            )
        } else {
            Check::failed(
                Subject::IstioInference,
                format!("istiod {called} does not route to InferencePools: {ISTIO_FLAG} is not true"),
                format!(
                    "Give it to what installs Istio, too: --set values.pilot.env.{ISTIO_FLAG}=true\n\
                     kubectl -n {} set env deployment/{} {ISTIO_FLAG}=true",
                    istiod.namespace, istiod.name
                ),
            )
        });
        checks.push(istio_version(istiod, &called));
    }
}

/// Versions that know InferencePools of v1, and several routes to them on one Gateway.
/// <https://github.com/istio/istio/issues/58392>
fn istio_version(istiod: &Workload, called: &str) -> Check {
    let subject = Subject::IstioVersion;
    let version = istiod
        .images
        .iter()
        .find_map(|image| Version::of_image(image));
    let upgrade = "Upgrade Istio to 1.28.5, 1.29.0 or newer.";
    match version {
        None => Check::warning(
            subject,
            format!("the version of istiod {called} cannot be told by its image"),
            "1.28.5, 1.29.0 and newer are safe.",
        ),
        Some(version) if version < Version(1, 28, 0) => Check::failed(
            subject,
            format!("istiod {called} is {version}, which knows no InferencePool of v1"),
            upgrade,
        ),
        Some(version) if version < Version(1, 28, 5) => Check::warning(
            subject,
            format!("istiod {called} is {version}, which may mix up several Models on one Gateway"),
            upgrade,
        ),
        Some(version) => Check::ok(subject, format!("istiod {called} is {version}")),
    }
}
