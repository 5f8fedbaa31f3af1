//! Endpoint pickers, and what they are for.

use std::collections::BTreeMap;

use kthena_bridge_core::config::Flavour;
use kthena_bridge_core::{OwnerKind, Source};

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

/// What is exposed, and what of it is not served.
pub(super) fn models(installed: &Installed) -> Category {
    let subject = Subject::Models;
    let checks = match &installed.sources {
        Err(why) => vec![unknown(subject, "Models and ModelExposures", why)],
        Ok(sources) => {
            let exposed: Vec<&Source> = sources.iter().filter(|s| s.is_exposed()).collect();
            let objects = exposed
                .iter()
                .filter(|source| source.kind() == OwnerKind::ModelExposure)
                .count();
            let models = sources.len() - objects;
            let waiting: Vec<String> = exposed
                .iter()
                .filter_map(|source| Some(format!("{} ({})", source.owner(), not_served(source)?)))
                .collect();
            vec![if exposed.is_empty() {
                Check::ok(subject, format!("none of {models} Models is exposed"))
            } else if waiting.is_empty() {
                Check::ok(
                    subject,
                    format!(
                        "all that is exposed is served: {} of {models} Models by annotations, and {objects} ModelExposures",
                        exposed.len() - objects,
                    ),
                )
            } else {
                Check::warning(
                    subject,
                    format!(
                        "{} of {} exposed Models are not served: {}",
                        waiting.len(),
                        exposed.len(),
                        names(&waiting)
                    ),
                    "The conditions of each say what to do; kthena-bridge explain REASON says more.",
                )
            }]
        }
    };
    Category {
        name: "models",
        checks,
    }
}

/// The reason why it is not served; nothing when its conditions say that it is.
fn not_served(source: &Source) -> Option<String> {
    let conditions = source.conditions();
    let condition = |type_: &str| conditions.iter().find(|c| c.type_ == type_);
    let Some(accepted) = condition("Accepted") else {
        return Some("no condition".to_owned());
    };
    [Some(accepted), condition("Programmed")]
        .into_iter()
        .flatten()
        .find(|condition| condition.status != "True")
        .map(|condition| condition.reason.clone())
}
