//! Kubernetes itself, Gateway API and Kthena.

use super::facts::{Facts, Served};
use super::report::{Category, Check, Subject};
use super::version::{Version, base};
use super::{names, unknown};

/// The oldest Kubernetes that the client library is made for.
/// <https://docs.rs/k8s-openapi/0.29.0/k8s_openapi/#the-v1_-features>
const OLDEST_KUBERNETES: Version = Version(1, 33, 0);
/// Since then, an HTTPRoute's timeouts are in the standard channel.
/// <https://github.com/kubernetes-sigs/gateway-api/releases/tag/v1.2.0>
const OLDEST_GATEWAY_API: Version = Version(1, 2, 0);
/// The newest Kthena that was run with.
const NEWEST_KTHENA: Version = Version(1, 0, 0);
const GATEWAY: &str = "gateway.networking.k8s.io";

pub(super) fn category(facts: &Facts) -> Category {
    let version = match Version::parse(&facts.kubernetes) {
        Some(version) if version < OLDEST_KUBERNETES => Check::failed(
            Subject::KubernetesVersion,
            format!("Kubernetes is {}", facts.kubernetes),
            format!(
                "kthena-bridge is made for {OLDEST_KUBERNETES} and newer. Upgrade the cluster."
            ),
        ),
        _ => Check::ok(
            Subject::KubernetesVersion,
            format!("Kubernetes is {}", facts.kubernetes),
        ),
    };
    let mut checks = vec![version];
    if facts.installed.is_none() {
        checks.push(match &facts.may_not_create {
            Err(why) => unknown(
                Subject::InstallRights,
                "whether you may install the operator",
                why,
            ),
            Ok(refused) if refused.is_empty() => Check::ok(
                Subject::InstallRights,
                "you may create what an installation creates",
            ),
            Ok(refused) => Check::failed(
                Subject::InstallRights,
                format!("you may not create {}", refused.join(", ")),
                "Have somebody install the operator who may.",
            ),
        });
    }
    Category {
        name: "kubernetes",
        checks,
    }
}

pub(super) fn gateway_api(facts: &Facts) -> Category {
    let needed = ["gatewayclasses", "gateways", "httproutes"];
    let mut checks = vec![kinds(
        facts,
        Subject::GatewayApi,
        "Gateway API",
        &[(GATEWAY, "v1", &needed)],
        "Install it: https://gateway-api.sigs.k8s.io/guides/#installing-gateway-api",
    )];
    if is_served(&facts.served, GATEWAY, "v1", "httproutes") {
        checks.push(version(facts));
    }
    Category {
        name: "gateway-api",
        checks,
    }
}

fn version(facts: &Facts) -> Check {
    let subject = Subject::GatewayApiVersion;
    let definitions = match &facts.definitions {
        Ok(definitions) => definitions,
        Err(why) => return unknown(subject, "the version of Gateway API", why),
    };
    let annotation = |name: &str| {
        let crd = definitions.get("httproutes.gateway.networking.k8s.io")?;
        let annotations = crd.annotations.as_ref()?;
        annotations
            .get(&format!("{GATEWAY}/{name}"))
            .map(String::as_str)
    };
    let channel = annotation("channel").unwrap_or("unknown");
    let said = format!(
        "Gateway API is {} ({channel} channel)",
        annotation("bundle-version").unwrap_or("of an unknown version")
    );
    match annotation("bundle-version").and_then(Version::parse) {
        Some(version) if version < OLDEST_GATEWAY_API && channel == "standard" => Check::failed(
            subject,
            said,
            format!(
                "Its HTTPRoutes have no timeouts, so that the API server refuses those of kthena-bridge. Install \
                 {OLDEST_GATEWAY_API} or newer."
            ),
        ),
        Some(_) => Check::ok(subject, said),
        None => Check::warning(
            subject,
            said,
            format!("{OLDEST_GATEWAY_API} or newer is needed; see where the CRDs come from."),
        ),
    }
}

pub(super) fn kthena(facts: &Facts) -> Category {
    let kinds = kinds(
        facts,
        Subject::Kthena,
        "Kthena's kinds",
        &[
            (
                "workload.serving.volcano.sh",
                "v1alpha1",
                &["modelboosters", "modelservings"],
            ),
            (
                "networking.serving.volcano.sh",
                "v1alpha1",
                &["modelservers"],
            ),
        ],
        "Install Kthena: https://kthena.volcano.sh/docs/getting-started/installation",
    );
    let mut checks = vec![kinds];
    match &facts.kthena {
        Err(why) => checks.push(unknown(Subject::KthenaController, "Kthena's controller", why)),
        Ok(found) => match found.first() {
            None => checks.push(Check::warning(
                Subject::KthenaController,
                "there is no Deployment of Kthena's controller-manager",
                "Without one, Models get no pods and no conditions, and are not exposed. Where it runs otherwise, \
                 this is all right.",
            )),
            Some(controller) => {
                let called = format!("{}/{}", controller.namespace, controller.name);
                checks.push(if controller.ready > 0 {
                    Check::ok(
                        Subject::KthenaController,
                        format!("Kthena's controller {called} is ready"),
                    )
                } else {
                    Check::failed(
                        Subject::KthenaController,
                        format!("Kthena's controller {called} has no ready pod"),
                        format!("kubectl -n {} describe deployment {}", controller.namespace, controller.name),
                    )
                });
                checks.push(kthena_version(&controller.images));
            }
        },
    }
    Category {
        name: "kthena",
        checks,
    }
}

fn kthena_version(images: &[String]) -> Check {
    let subject = Subject::KthenaVersion;
    let image = images
        .iter()
        .find(|image| base(image).contains("kthena-controller-manager"));
    let image = image.or(images.first()).map_or("", String::as_str);
    match Version::of_image(image) {
        Some(version) if version.minor() > NEWEST_KTHENA.minor() => Check::warning(
            subject,
            format!("Kthena is {version}"),
            format!("kthena-bridge was not tried with versions after {NEWEST_KTHENA}."),
        ),
        Some(version) => Check::ok(subject, format!("Kthena is {version}")),
        None => Check::warning(
            subject,
            format!("the version of Kthena cannot be told by its image {image:?}"),
            format!("v0.1.0 to {NEWEST_KTHENA} are supported."),
        ),
    }
}

/// Whether a resource is served; false also where that is not known.
pub(super) fn is_served(
    served: &super::facts::Known<Served>,
    group: &str,
    version: &str,
    resource: &str,
) -> bool {
    served.as_ref().is_ok_and(|served| {
        served
            .get(&(group.to_owned(), version.to_owned()))
            .is_some_and(|resources| resources.contains(resource))
    })
}

/// Whether all resources of some groups are served.
pub(super) fn kinds(
    facts: &Facts,
    subject: Subject,
    what: &str,
    needed: &[(&str, &str, &[&str])],
    hint: &str,
) -> Check {
    let served = match &facts.served {
        Ok(served) => served,
        Err(why) => return unknown(subject, what, why),
    };
    let mut missing = Vec::new();
    let mut versions = Vec::new();
    for (group, version, resources) in needed {
        versions.push(format!("{group}/{version}"));
        let absent = resources
            .iter()
            .filter(|resource| !is_served(&facts.served, group, version, resource));
        missing.extend(absent.map(|resource| {
            let others: Vec<&str> = served
                .iter()
                .filter(|((g, _), resources)| g == group && resources.contains(*resource))
                .map(|((_, version), _)| version.as_str())
                .collect();
            if others.is_empty() {
                format!("{resource}.{group}")
            } else {
                format!(
                    "{resource}.{group} in {version} (there is {})",
                    others.join(", ")
                )
            }
        }));
    }
    if missing.is_empty() {
        Check::ok(
            subject,
            format!("{what}: {} is served", versions.join(" and ")),
        )
    } else {
        Check::failed(
            subject,
            format!("{what}: not served: {}", names(&missing)),
            hint,
        )
    }
}
