//! What is asked for, with the operator's defaults filled in: the annotations of a Model, or a ModelExposure.
//!
//! An [`Exposure`] does not know which of them it came from.

mod as_object;
pub(crate) mod defaults;
mod object;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;

use kthena_bridge_api::annotation as key;
use kthena_bridge_api::model_exposure::{Objective, REQUEST_TIMEOUT};
use kthena_bridge_api::plugins_config::PluginsConfig;
use kthena_bridge_api::text::{GatewayPattern, quote};

use crate::config::{Config, FailureMode, ModelHeader, Resources};
use crate::names::Names;

pub use kthena_bridge_api::model_exposure::ENDPOINT_PICKER_PORT;
pub use value::GatewayRef;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The Gateways that are named; empty: the only one of the Model's namespace.
    pub gateways: Vec<GatewayRef>,
    /// The Gateways that the operator allows; empty: all.
    pub allowed_gateways: Vec<GatewayPattern>,
    /// Host names; empty: every host of the listeners.
    pub hostnames: Vec<String>,
    /// Path prefix, without a slash at its end unless it is `/`.
    pub path: String,
    /// Match the header that carries the body's model name, too.
    pub match_model: bool,
    /// The names that clients may send; none: the Model's own and the one that the engine serves.
    pub model_names: Option<Vec<String>>,
    /// Priorities that requests may ask for.
    pub objectives: Vec<Objective>,
    /// Time that a whole request may take, a Gateway API duration.
    pub request_timeout: String,
    /// What the Gateway does while the endpoint picker does not answer.
    pub failure_mode: FailureMode,
    /// Who picks endpoints.
    pub endpoint_picker: EndpointPicker,
    /// The engine's port; none: the ModelServer's.
    pub target_port: Option<u16>,
    /// Labels of the pods; none: derived from the Model's ModelServing.
    pub pod_selector: Option<BTreeMap<String, String>>,
    /// Leave every object as it is.
    pub paused: bool,
}

/// Who picks endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointPicker {
    /// One that is run for this Model.
    Managed(Box<PickerSettings>),
    /// A Service of the Model's namespace, run by somebody else.
    Service {
        /// The Service's name.
        name: String,
        /// The Service's port.
        port: u16,
    },
}

/// What is said of an endpoint picker that is run for a Model. What is not given is as the operator's
/// configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PickerSettings {
    /// How many pods.
    pub replicas: Option<NonZeroU16>,
    /// Its compute resources.
    pub resources: Option<Resources>,
    /// Its plugins; a field that is given replaces the operator's.
    pub plugins_config: Option<PluginsConfig>,
}

impl Default for EndpointPicker {
    fn default() -> Self {
        Self::Managed(Box::default())
    }
}

/// An annotation, or a field of a ModelExposure, that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    /// The annotation's whole key, or the field's path.
    pub key: String,
    /// The value as it stands.
    pub value: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if key::is_ours(&self.key) {
            write!(f, "annotation {}: ", quote(&self.key))?;
        } else {
            write!(f, "{}: ", self.key)?;
        }
        if !self.value.is_empty() || key::is_ours(&self.key) {
            write!(f, "{} ", quote(&self.value))?;
        }
        f.write_str(&self.problem)
    }
}

/// Everything that is not understood, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidSettings(pub Vec<InvalidSetting>);

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A condition's message has a limit, and nobody reads more than a few.
        const SHOWN: usize = 5;
        for (i, invalid) in self.0.iter().take(SHOWN).enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{invalid}")?;
        }
        if self.0.len() > SHOWN {
            write!(f, "; and {} more", self.0.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl Exposure {
    /// Reads what is asked for of the object `namespace`/`name`; nothing when it is not to be exposed.
    ///
    /// # Errors
    /// Every annotation under our prefix that is not understood, with what is allowed instead.
    pub fn parse(
        namespace: &str,
        name: &str,
        annotations: &BTreeMap<String, String>,
        config: &Config,
    ) -> Result<Option<Self>, InvalidSettings> {
        let mut read = Reader {
            annotations,
            invalid: Vec::new(),
        };
        if !read.optional(key::EXPOSE, value::boolean).unwrap_or(false) {
            return read.finish(None);
        }
        for (unknown, value) in annotations
            .iter()
            .filter(|(k, _)| key::is_ours(k) && key::of(k).is_none())
        {
            read.refuse(unknown, value, &value::unknown_key(unknown));
        }
        let defaults = Defaults::of(config, namespace, name);
        let gateways = read.with_default(key::GATEWAY, defaults.gateways, |v| {
            value::gateways(v, namespace)
        });
        let hostnames = read.with_default(key::HOSTNAMES, defaults.hostnames, value::hostnames);
        let path = read.with_default(key::PATH, defaults.path, value::path);
        let exposure = Self {
            gateways: gateways.unwrap_or_default(),
            allowed_gateways: config.allowed_gateways.clone(),
            hostnames: hostnames.unwrap_or_default(),
            path: path.unwrap_or_else(|| "/".to_owned()),
            match_model: read
                .optional(key::MATCH_MODEL, |v| {
                    match_model(value::boolean(v)?, config.model_header, "the annotation")
                })
                .unwrap_or(false),
            model_names: read.optional(key::MODEL_NAMES, value::model_names),
            objectives: read
                .optional(key::PRIORITY, value::priority)
                .map(|priority| Objective {
                    name: Names::of(name).model,
                    priority,
                })
                .into_iter()
                .collect(),
            request_timeout: read
                .optional(key::REQUEST_TIMEOUT, value::duration)
                .unwrap_or_else(|| REQUEST_TIMEOUT.to_owned()),
            failure_mode: read
                .optional(key::FAILURE_MODE, value::failure_mode)
                .unwrap_or(config.failure_mode),
            endpoint_picker: read
                .optional(key::ENDPOINT_PICKER, value::endpoint_picker)
                .unwrap_or_default(),
            target_port: read.optional(key::TARGET_PORT, value::port),
            pod_selector: read.optional(key::POD_SELECTOR, value::labels),
            paused: read.optional(key::PAUSED, value::boolean).unwrap_or(false),
        };
        read.finish(Some(exposure))
    }
}

/// Whether the model's header may be matched; `setting` is what says that it is.
fn match_model(on: bool, header: ModelHeader, setting: &str) -> Result<bool, String> {
    match (on, header) {
        (true, ModelHeader::None) => Err(format!(
            "needs something on the Gateway that sets the header X-Gateway-Model-Name from the request's body, such as \
             the inference extension's body-based routing; install it and set modelHeader: provided in the operator's \
             configuration, or remove {setting}"
        )),
        (on, _) => Ok(on),
    }
}

/// What the operator's configuration says of a Model that does not, as annotations would.
struct Defaults {
    gateways: Option<String>,
    hostnames: Option<String>,
    path: Option<String>,
}

impl Defaults {
    fn of(config: &Config, namespace: &str, name: &str) -> Self {
        let fill = |template: &str| {
            template
                .replace("{namespace}", namespace)
                .replace("{name}", name)
        };
        let gateways = config.default_gateway.as_ref();
        let hostnames = config.hostname_template.as_ref();
        let path = config.path_template.as_ref();
        Self {
            gateways: gateways.map(|gateways| gateways.as_str().to_owned()),
            hostnames: hostnames.map(|template| fill(template.as_str())),
            path: path.map(|template| fill(template.as_str())),
        }
    }
}

/// Reads annotations one by one and collects what is wrong with them.
struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    invalid: Vec<InvalidSetting>,
}

impl Reader<'_> {
    fn optional<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.with_default(key, None, parse)
    }

    /// A default goes through the same grammar: a template may make a bad value of a Model's name.
    fn with_default<T>(
        &mut self,
        key: &str,
        default: Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (value, from_default) = match (self.annotations.get(key), default) {
            (Some(value), _) => (value.clone(), false),
            (None, Some(default)) => (default, true),
            (None, None) => return None,
        };
        match parse(value.trim()) {
            Ok(parsed) => Some(parsed),
            Err(problem) => {
                let by_default = if from_default {
                    "; this is the operator's default, set the annotation"
                } else {
                    ""
                };
                self.refuse(key, &value, &format!("{problem}{by_default}"));
                None
            }
        }
    }

    fn refuse(&mut self, key: &str, value: &str, problem: &str) {
        self.invalid.push(InvalidSetting {
            key: key.to_owned(),
            value: value.to_owned(),
            problem: problem.to_owned(),
        });
    }

    fn finish(self, exposure: Option<Exposure>) -> Result<Option<Exposure>, InvalidSettings> {
        if self.invalid.is_empty() {
            Ok(exposure)
        } else {
            Err(InvalidSettings(self.invalid))
        }
    }
}

#[cfg(test)]
mod tests;
