//! Gateway API's inference extension.

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_core::observe::bundle_version;

use super::facts::Facts;
use super::kubernetes::{is_served, kinds};
use super::report::{Category, Check, Subject};
use super::unknown;
use super::version::Version;

/// The versions whose CRDs were tried, without the patch.
const OLDEST: (u32, u32) = (1, 0);
const NEWEST: (u32, u32) = (1, 5);
const MANIFESTS: &str = "kubectl apply -f https://github.com/kubernetes-sigs/gateway-api-inference-extension/\
    releases/download/v1.5.0/manifests.yaml";

pub(super) fn category(facts: &Facts) -> Category {
    let pool = ChildKind::InferencePool.api_resource();
    let mut checks = vec![kinds(
        facts,
        Subject::InferencePool,
        "InferencePool",
        &[(&pool.group, &pool.version, &[&pool.plural])],
        &format!("Install the inference extension:\n{MANIFESTS}"),
    )];
    if facts.served.is_ok() {
        if is_served(&facts.served, &pool.group, &pool.version, &pool.plural) {
            checks.push(version(facts));
        }
        checks.push(optional(
            facts,
            Subject::InferenceModelRewrite,
            ChildKind::InferenceModelRewrite,
            "Clients can only send the names that engines serve, such as \"Qwen2.5-0.5B-Instruct\", and not the \
             Models' own: such a Model is MissingKind. v1.3 to v1.5 have it",
        ));
        checks.push(optional(
            facts,
            Subject::InferenceObjective,
            ChildKind::InferenceObjective,
            "Models cannot have a priority. v1.0 to v1.5 have it",
        ));
    }
    Category {
        name: "inference-extension",
        checks,
    }
}

fn version(facts: &Facts) -> Check {
    let subject = Subject::InferenceExtensionVersion;
    let definitions = match &facts.definitions {
        Ok(definitions) => definitions,
        Err(why) => return unknown(subject, "the version of the inference extension", why),
    };
    let crd = ChildKind::InferencePool.crd().unwrap_or_default();
    let version = definitions.get(&crd).and_then(bundle_version);
    let range = format!("v{}.{} to v{}.{}", OLDEST.0, OLDEST.1, NEWEST.0, NEWEST.1);
    match version.and_then(|version| Version::parse(&version)) {
        Some(version) if (OLDEST..=NEWEST).contains(&version.minor()) => {
            Check::ok(subject, format!("the inference extension is {version}"))
        }
        Some(version) => Check::warning(
            subject,
            format!("the inference extension is {version}"),
            format!("kthena-bridge was tried with {range}."),
        ),
        None => Check::warning(
            subject,
            "the version of the inference extension is not known: its CRD does not say",
            format!("{range} are supported."),
        ),
    }
}

fn optional(facts: &Facts, subject: Subject, kind: ChildKind, without: &str) -> Check {
    let resource = kind.api_resource();
    if is_served(
        &facts.served,
        &resource.group,
        &resource.version,
        &resource.plural,
    ) {
        Check::ok(
            subject,
            format!("{kind}: {} is served", resource.api_version),
        )
    } else {
        Check::warning(
            subject,
            format!("{kind}: not served: {}.{}", resource.plural, resource.group),
            format!("{without}:\n{MANIFESTS}"),
        )
    }
}
