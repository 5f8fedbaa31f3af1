//! What is asked for: the annotations of a Model with the operator's defaults filled in.
//!
//! An [`Exposure`] does not know where it came from, so that another source can come beside annotations.

pub(crate) mod defaults;
mod value;

use std::collections::BTreeMap;
use std::fmt;

use kthena_bridge_api::annotation as key;

use crate::config::{Config, FailureMode, GatewayPattern, ModelHeader};

pub use value::GatewayRef;
pub(crate) use value::quote;

/// The port on which endpoint pickers speak ext_proc.
pub const ENDPOINT_PICKER_PORT: u16 = 9002;

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
    /// Priority of the InferenceObjective; none: no objective.
    pub priority: Option<i32>,
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
    Managed,
    /// A Service of the Model's namespace, run by somebody else.
    Service {
        /// The Service's name.
        name: String,
        /// The Service's port.
        port: u16,
    },
}

/// An annotation that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAnnotation {
    /// The whole key.
    pub key: String,
    /// The value as it stands.
    pub value: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl fmt::Display for InvalidAnnotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "annotation {}: {} {}",
            value::quote(&self.key),
            value::quote(&self.value),
            self.problem
        )
    }
}

/// Every annotation that is not understood, at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidAnnotations(pub Vec<InvalidAnnotation>);

impl fmt::Display for InvalidAnnotations {
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
    ) -> Result<Option<Self>, InvalidAnnotations> {
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
        let fill = |template: &str| {
            template
                .replace("{namespace}", namespace)
                .replace("{name}", name)
        };
        let default_gateway = config
            .default_gateway
            .as_ref()
            .map(|g| g.as_str().to_owned());
        let gateways = read.with_default(key::GATEWAY, default_gateway, |v| {
            value::gateways(v, namespace)
        });
        let hostnames = read.with_default(
            key::HOSTNAMES,
            config.hostname_template.as_ref().map(|t| fill(t.as_str())),
            value::hostnames,
        );
        let path = read.with_default(
            key::PATH,
            config.path_template.as_ref().map(|t| fill(t.as_str())),
            value::path,
        );
        let exposure = Self {
            gateways: gateways.unwrap_or_default(),
            allowed_gateways: config.allowed_gateways.clone(),
            hostnames: hostnames.unwrap_or_default(),
            path: path.unwrap_or_else(|| "/".to_owned()),
            match_model: read
                .optional(key::MATCH_MODEL, |v| match_model(v, config.model_header))
                .unwrap_or(false),
            model_names: read.optional(key::MODEL_NAMES, value::model_names),
            priority: read.optional(key::PRIORITY, value::priority),
            request_timeout: read
                .optional(key::REQUEST_TIMEOUT, value::duration)
                .unwrap_or_else(|| "300s".to_owned()),
            failure_mode: read
                .optional(key::FAILURE_MODE, value::failure_mode)
                .unwrap_or(config.failure_mode),
            endpoint_picker: read
                .optional(key::ENDPOINT_PICKER, value::endpoint_picker)
                .unwrap_or(EndpointPicker::Managed),
            target_port: read.optional(key::TARGET_PORT, value::port),
            pod_selector: read.optional(key::POD_SELECTOR, value::labels),
            paused: read.optional(key::PAUSED, value::boolean).unwrap_or(false),
        };
        read.finish(Some(exposure))
    }
}

fn match_model(v: &str, header: ModelHeader) -> Result<bool, String> {
    match (value::boolean(v)?, header) {
        (true, ModelHeader::None) => Err(
            "needs something on the Gateway that sets the header X-Gateway-Model-Name from the request's \
             body, such as the inference extension's body-based routing; install it and set modelHeader: \
             provided in the operator's configuration, or remove the annotation"
                .to_owned(),
        ),
        (on, _) => Ok(on),
    }
}

/// Reads annotations one by one and collects what is wrong with them.
struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    invalid: Vec<InvalidAnnotation>,
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
        self.invalid.push(InvalidAnnotation {
            key: key.to_owned(),
            value: value.to_owned(),
            problem: problem.to_owned(),
        });
    }

    fn finish(self, exposure: Option<Exposure>) -> Result<Option<Exposure>, InvalidAnnotations> {
        if self.invalid.is_empty() {
            Ok(exposure)
        } else {
            Err(InvalidAnnotations(self.invalid))
        }
    }
}

#[cfg(test)]
mod tests;
