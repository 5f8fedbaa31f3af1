//! Endpoint pickers, and the Models that they are for.

use std::collections::BTreeMap;

use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::ask::is_exposed;
use kthena_bridge_core::config::Flavour;
use kube::ResourceExt as _;

use super::facts::Installed;
use super::report::{Category, Check, Subject};
use super::version::{Version, base};
use super::{names, unknown};

pub(super) fn category(installed: &Installed) -> Category {
    let checks = match &installed.pickers {
        Err(why) => vec![unknown(Subject::PickersReady, "endpoint pickers", why)],
        Ok(pickers) if pickers.is_empty() => Vec::new(),
        Ok(pickers) => {
            let mut images: BTreeMap<&str, usize> = BTreeMap::new();
            for image in pickers.iter().flat_map(|picker| &picker.images) {
                *images.entry(image).or_default() += 1;
            }
            let mut checks: Vec<Check> = images
                .iter()
                .map(|(image, count)| in_use(image, *count))
                .collect();
            let waiting: Vec<String> = pickers
                .iter()
                .filter(|picker| picker.ready == 0)
                .map(|picker| format!("{}/{}", picker.namespace, picker.name))
                .collect();
            checks.push(if waiting.is_empty() {
                Check::ok(Subject::PickersReady, format!("all {} endpoint pickers are ready", pickers.len()))
            } else {
                Check::warning(
                    Subject::PickersReady,
                    format!(
                        "{} of {} endpoint pickers have no ready pod: {}",
                        waiting.len(),
                        pickers.len(),
                        names(&waiting)
                    ),
                    "Their Models' condition Programmed says why, and whether they are served without.\n\
                     kthena-bridge explain EndpointPickerNotReady",
                )
            });
            checks
        }
    };
    Category {
        name: "endpoint-pickers",
        checks,
    }
}

/// Whether the operator's configuration names an endpoint picker that it can start.
pub(super) fn image(image: &str) -> Check {
    supported(
        Subject::PickerImage,
        image,
        &format!("endpoint pickers are run from {image}"),
        "Name another in endpointPicker.image of the operator's configuration.",
    )
}

fn in_use(image: &str, count: usize) -> Check {
    supported(
        Subject::PickerVersions,
        image,
        &format!("{count} endpoint pickers run {image}"),
        "The operator's configuration names the image; a picker that still has another one belongs to a Model \
         that is paused or not accepted.",
    )
}

fn supported(subject: Subject, image: &str, said: &str, hint: &str) -> Check {
    match Flavour::of_image(base(image)).zip(Version::of_image(image)) {
        Some((flavour, version)) if flavour.knows(version.minor()) => Check::ok(subject, said),
        Some((flavour, _)) => Check::failed(
            subject,
            said,
            format!(
                "Flags and configuration are those of {} for {}. {hint}",
                flavour.range(),
                flavour.as_str()
            ),
        ),
        None => Check::warning(
            subject,
            format!("{said}, whose version cannot be told"),
            "It has to understand what endpointPicker.flavour and endpointPicker.version of the operator's \
             configuration say.",
        ),
    }
}

/// The Models that are exposed, and those among them that are not served.
pub(super) fn models(installed: &Installed) -> Category {
    let subject = Subject::Models;
    let checks = match &installed.models {
        Err(why) => vec![unknown(subject, "Models", why)],
        Ok(models) => {
            let exposed: Vec<&ModelBooster> = models.iter().filter(|m| is_exposed(m)).collect();
            let mut waiting = Vec::new();
            for model in &exposed {
                let conditions = model.status.iter().flat_map(|status| &status.conditions);
                let condition = |type_: &str| conditions.clone().find(|c| c.type_ == type_);
                let ill = [condition("Accepted"), condition("Programmed")];
                let reason = match ill {
                    [None, _] => Some("no condition".to_owned()),
                    ill => ill
                        .into_iter()
                        .flatten()
                        .find(|c| c.status != "True")
                        .map(|c| c.reason.clone()),
                };
                if let Some(reason) = reason {
                    let namespace = model.namespace().unwrap_or_default();
                    waiting.push(format!("{namespace}/{} ({reason})", model.name_any()));
                }
            }
            vec![match (exposed.len(), waiting.len()) {
                (0, _) => Check::ok(
                    subject,
                    format!("none of {} Models is exposed", models.len()),
                ),
                (all, 0) => Check::ok(
                    subject,
                    format!("{all} of {} Models are exposed, and served", models.len()),
                ),
                (all, ill) => Check::warning(
                    subject,
                    format!(
                        "{ill} of {all} exposed Models are not served: {}",
                        names(&waiting)
                    ),
                    "Each Model's conditions say what to do; kthena-bridge explain REASON says more.",
                ),
            }]
        }
    };
    Category {
        name: "models",
        checks,
    }
}
