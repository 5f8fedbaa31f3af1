//! Whether the operator's defaults can be used for some Model at all. An error is a sentence about them.

use kthena_bridge_api::text::quote;

use super::value;

/// A template with names of a Model in its places.
fn filled(template: &str) -> String {
    template
        .replace("{namespace}", "namespace")
        .replace("{name}", "name")
}

fn told<T>(text: &str, parsed: Result<T, String>) -> Result<(), String> {
    match parsed {
        Ok(_) => Ok(()),
        Err(problem) => Err(format!("{} {problem}", quote(text))),
    }
}

/// Checks the Gateways of a Model that names none.
pub(crate) fn gateway(gateways: &str) -> Result<(), String> {
    told(gateways, value::gateways(gateways, "namespace"))
}

/// Checks the host name of a Model that names none.
pub(crate) fn hostname(template: &str) -> Result<(), String> {
    told(template, value::hostnames(&filled(template)))
}

/// Checks the path of a Model that names none.
pub(crate) fn path(template: &str) -> Result<(), String> {
    told(template, value::path(&filled(template)))
}
