//! Gateways, and what their implementations need and cannot do.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_core::provider::{self, Provider};
use kube::ResourceExt as _;

use super::facts::{Facts, Unknown, Workload};
use super::kubernetes::is_served;
use super::report::{Category, Check, Subject};
use super::version::Version;
use super::{names, unknown};

/// What makes istiod route to InferencePools.
const ISTIO_FLAG: &str = "ENABLE_GATEWAY_API_INFERENCE_EXTENSION";

/// A Gateway with its implementation.
struct Known<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Why it is not known what it says.
    gateway: Result<&'a Gateway, &'a Unknown>,
    /// Nothing where its class does not exist.
    provider: Option<&'static Provider>,
}

impl Known<'_> {
    fn called(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

pub(super) fn category(facts: &Facts) -> Category {
    Category {
        name: "gateways",
        checks: checks(facts),
    }
}

fn checks(facts: &Facts) -> Vec<Check> {
    let confined = facts.is_confined();
    let mut checks = Vec::new();
    let gateways = match &facts.gateways {
        Ok(gateways) => gateways.as_slice(),
        Err(why) => {
            checks.push(unknown(Subject::Gateways, "Gateways", why));
            &[]
        }
    };
    let classes = match &facts.classes {
        Ok(classes) => classes.as_slice(),
        // A confined operator goes by its configuration.
        Err(_) if confined => &[],
        Err(why) if checks.is_empty() => {
            return vec![unknown(Subject::GatewayClass, "GatewayClasses", why)];
        }
        Err(_) => return checks,
    };
    if facts.gateways.is_ok() && gateways.is_empty() && facts.elsewhere.is_empty() {
        let hint = "Models are exposed through one. Make one, with an HTTP or HTTPS listener that takes routes of the \
             Models' namespaces.";
        let elsewhere = if confined {
            " One of a namespace that the operator does not watch stands in gateways of its configuration."
        } else {
            ""
        };
        return vec![Check::warning(
            Subject::Gateways,
            "there is no Gateway",
            format!("{hint}{elsewhere}"),
        )];
    }
    let used = used(facts);
    let mut known = Vec::new();
    for gateway in gateways {
        let one = of_cluster(facts, classes, gateway);
        if confined && configured(facts, one.namespace, one.name).is_none() {
            checks.push(not_configured(&one, &used));
        } else {
            checks.extend(contradiction(facts, &one, classes));
            known.push(one);
        }
    }
    for ((namespace, name), found) in &facts.elsewhere {
        let gateway = match found {
            Ok(Some(gateway)) => Ok(gateway),
            Ok(None) => {
                checks.push(missing(namespace, name, &used));
                continue;
            }
            Err(why) => Err(why),
        };
        let one = Known {
            namespace,
            name,
            gateway,
            provider: configured(facts, namespace, name),
        };
        checks.extend(contradiction(facts, &one, classes));
        known.push(one);
    }
    let classless: Vec<String> = known
        .iter()
        .filter(|k| k.provider.is_none())
        .map(Known::called)
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
        of_provider(&mut checks, facts, provider, gateways, &used);
    }
    checks
}

/// A Gateway with what the operator goes by: its configuration, else the GatewayClass.
fn of_cluster<'a>(facts: &Facts, classes: &[GatewayClass], gateway: &'a Gateway) -> Known<'a> {
    let namespace = gateway.metadata.namespace.as_deref().unwrap_or_default();
    let name = gateway.metadata.name.as_deref().unwrap_or_default();
    let configured = configured(facts, namespace, name);
    Known {
        namespace,
        name,
        gateway: Ok(gateway),
        provider: configured.or_else(|| of_class(classes, gateway)),
    }
}

/// The implementation that the operator's configuration says.
fn configured(facts: &Facts, namespace: &str, name: &str) -> Option<&'static Provider> {
    let gateways = &facts.config.as_ref().ok()?.gateways;
    let found = gateways
        .iter()
        .find(|g| g.namespace.as_str() == namespace && g.name.as_str() == name)?;
    Some(found.provider.provider())
}

fn of_class(classes: &[GatewayClass], gateway: &Gateway) -> Option<&'static Provider> {
    let class = classes
        .iter()
        .find(|c| c.name_any() == gateway.spec.gateway_class_name)?;
    Some(Provider::of_controller(&class.spec.controller_name))
}

/// It does harm to Models on a Gateway, and none to others.
fn harm(
    used: &BTreeSet<String>,
    subject: Subject,
    known: &str,
    said: String,
    hint: String,
) -> Check {
    if used.contains(known) {
        Check::failed(subject, said, hint)
    } else {
        Check::warning(subject, said, hint)
    }
}

/// A confined operator may not read the GatewayClass.
fn not_configured(one: &Known<'_>, used: &BTreeSet<String>) -> Check {
    let called = one.called();
    let provider = one.provider.map_or("...", |provider| provider.name);
    let hint = format!(
        "The operator may not read its GatewayClass, so that a Model on it is not accepted. Add it \
         with its provider:\n\
         gateways: [{{namespace: {}, name: {}, provider: {provider}}}]",
        one.namespace, one.name
    );
    let said = format!("Gateway {called} is not among gateways in the operator's configuration");
    harm(used, Subject::GatewayConfigured, &called, said, hint)
}

/// The operator takes a Gateway for there that it cannot see.
fn missing(namespace: &str, name: &str, used: &BTreeSet<String>) -> Check {
    let called = format!("{namespace}/{name}");
    let said = format!(
        "Gateway {called} does not exist, and is among gateways in the operator's configuration"
    );
    let hint = "A Model on it is not served. Create it, or take it out there.".to_owned();
    harm(used, Subject::GatewayConfigured, &called, said, hint)
}

/// Where the configuration says another implementation than the GatewayClass.
fn contradiction(facts: &Facts, one: &Known<'_>, classes: &[GatewayClass]) -> Option<Check> {
    let configured = configured(facts, one.namespace, one.name)?;
    let by_class = of_class(classes, one.gateway.ok()?)?;
    if by_class == configured || *by_class == provider::GENERIC {
        return None;
    }
    let called = one.called();
    Some(Check::warning(
        Subject::GatewayConfigured,
        format!(
            "Gateway {called} is {}'s by its GatewayClass, and {}'s by the operator's configuration",
            by_class.name, configured.name
        ),
        "The operator goes by its configuration, and makes what that implementation needs. Mend gateways there.",
    ))
}

/// All checks of the Gateways of one implementation.
fn of_provider(
    checks: &mut Vec<Check>,
    facts: &Facts,
    provider: &'static Provider,
    gateways: &[&Known<'_>],
    used: &BTreeSet<String>,
) {
    programmed(checks, provider, gateways, used);
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
        let all: Vec<String> = gateways.iter().map(|g| g.called()).collect();
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
    let (mut fine, mut hidden, mut cause) = (Vec::new(), Vec::new(), None);
    for known in gateways {
        let called = known.called();
        let gateway = match known.gateway {
            Ok(gateway) => gateway,
            Err(why) => {
                hidden.push(called);
                cause = cause.or(Some(why));
                continue;
            }
        };
        let class = &gateway.spec.gateway_class_name;
        if let Some(served) = provider.class.filter(|served| served != class) {
            checks.push(Check::failed(
                Subject::GatewayClass,
                format!("Gateway {called} is of the class {class}"),
                format!(
                    "{} serves the class {served} only. Name that one in the Gateway.",
                    provider.name
                ),
            ));
            continue;
        }
        let listeners = &gateway.spec.listeners;
        if !listeners
            .iter()
            .any(|l| matches!(l.protocol.as_str(), "HTTP" | "HTTPS"))
        {
            checks.push(Check::warning(
                Subject::GatewayProgrammed,
                format!("Gateway {called} has no HTTP or HTTPS listener"),
                "Models cannot be exposed on it.",
            ));
            continue;
        }
        match not_programmed(gateway).filter(|_| provider.reports) {
            None => fine.push(called),
            Some(why) => {
                let said = format!("Gateway {called} is not programmed: {why}");
                let hint = format!(
                    "A Model on it is not served.\nkubectl -n {} describe gateway {}",
                    known.namespace, known.name
                );
                checks.push(harm(used, Subject::GatewayProgrammed, &called, said, hint));
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
    if let Some(why) = cause {
        let what = format!(
            "whether Gateways of {} are programmed: {}",
            provider.name,
            names(&hidden)
        );
        checks.push(unknown(Subject::GatewayProgrammed, &what, why));
    }
}

/// The Gateways that what is exposed asks for, as `namespace/name`.
fn used(facts: &Facts) -> BTreeSet<String> {
    let Some(installed) = &facts.installed else {
        return BTreeSet::new();
    };
    let config = facts.config.clone().unwrap_or_default();
    let sources = installed.sources.iter().flatten();
    sources
        .filter_map(|source| source.exposure(&config).ok().flatten())
        .flat_map(|exposure| exposure.gateways)
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
