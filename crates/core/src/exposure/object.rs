//! A ModelExposure as what is asked for. What its schema refuses is refused here, too, in the same words: the schema
//! may be an older one, and a file need not have gone through an API server.

use std::num::NonZeroU16;

use kthena_bridge_api::model_exposure::{
    GatewayReference, ManagedEndpointPicker, ModelExposureSpec, PodSelector, ServiceReference,
    TWO_PICKERS,
};
use kthena_bridge_api::text::{NamespaceName, ObjectName, ServiceName, quote};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    Defaults, ENDPOINT_PICKER_PORT, EndpointPicker, Exposure, GatewayRef, InvalidSetting,
    InvalidSettings, PickerSettings, REQUEST_TIMEOUT, match_model, value,
};
use crate::config::Config;

/// How many Gateways an HTTPRoute has at most.
const GATEWAYS: usize = 32;

impl Exposure {
    /// Reads what the ModelExposure `namespace`/`name` asks for.
    ///
    /// # Errors
    /// Every field that is not understood, with what is allowed instead.
    pub fn of_object(
        namespace: &str,
        name: &str,
        spec: &ModelExposureSpec,
        config: &Config,
    ) -> Result<Self, InvalidSettings> {
        let mut read = Reader::default();
        let defaults = Defaults::of(config, namespace, name);
        let gateways = if spec.gateways.is_empty() {
            read.configured("spec.gateways", defaults.gateways, |text| {
                value::gateways(text, namespace)
            })
        } else {
            Some(read.gateways(&spec.gateways, namespace))
        };
        let hostnames = if spec.hostnames.is_empty() {
            read.configured("spec.hostnames", defaults.hostnames, value::hostnames)
        } else {
            read.whole(
                "spec.hostnames",
                value::are_hostnames(spec.hostnames.clone()),
            )
        };
        let path = match &spec.path {
            None => read.configured("spec.path", defaults.path, value::path),
            Some(path) => read.text("spec.path", path, value::path),
        };
        let match_model = match_model(spec.match_model, config.model_header, "the field");
        let model_names = (!spec.model_names.is_empty())
            .then(|| value::are_model_names(spec.model_names.clone()))
            .and_then(|names| read.whole("spec.modelNames", names));
        for (at, objective) in spec.objectives.iter().enumerate() {
            let field = format!("spec.objectives[{at}].name");
            read.checked(&field, ObjectName::new(&objective.name));
            let before = spec.objectives[..at].iter();
            if before.into_iter().any(|o| o.name == objective.name) {
                read.refuse(&field, &objective.name, "is there twice");
            }
        }
        let timeout = spec.request_timeout.as_deref().unwrap_or(REQUEST_TIMEOUT);
        let failure_mode = spec
            .failure_mode
            .as_ref()
            .and_then(|mode| read.text("spec.failureMode", mode, value::failure_mode));
        let exposure = Self {
            gateways: gateways.unwrap_or_default(),
            allowed_gateways: config.allowed_gateways.clone(),
            hostnames: hostnames.unwrap_or_default(),
            path: path.unwrap_or_else(|| "/".to_owned()),
            match_model: read.whole("spec.matchModel", match_model).unwrap_or(false),
            model_names,
            objectives: spec.objectives.clone(),
            request_timeout: read
                .text("spec.requestTimeout", timeout, value::duration)
                .unwrap_or_default(),
            failure_mode: failure_mode.unwrap_or(config.failure_mode),
            endpoint_picker: read.endpoint_picker(spec, config),
            target_port: read.port("spec.targetPort", spec.target_port),
            pod_selector: spec.selector.as_ref().map(|selector| {
                read.labels(selector);
                selector.match_labels.clone()
            }),
            paused: spec.paused,
        };
        if read.invalid.is_empty() {
            Ok(exposure)
        } else {
            Err(InvalidSettings(read.invalid))
        }
    }
}

/// Collects what is wrong with the fields.
#[derive(Default)]
struct Reader {
    invalid: Vec<InvalidSetting>,
}

impl Reader {
    /// Reads a text.
    fn text<T>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(text)
            .map_err(|problem| self.refuse(field, text, &problem))
            .ok()
    }

    /// Reads what the operator's configuration says, as an annotation would: a template may make a bad value of a
    /// name.
    fn configured<T>(
        &mut self,
        field: &str,
        text: Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.text(field, &text?, |text| {
            parse(text).map_err(|problem| {
                format!("{problem}; this is the operator's default, set the field")
            })
        })
    }

    /// Takes a value whose problem says what of it is wrong.
    fn whole<T>(&mut self, field: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|problem| self.refuse(field, "", &problem))
            .ok()
    }

    /// Takes a value whose problem begins with it.
    fn checked<T>(&mut self, field: &str, read: Result<T, String>) {
        self.whole(field, read);
    }

    fn refuse(&mut self, field: &str, value: &str, problem: &str) {
        self.invalid.push(InvalidSetting {
            key: field.to_owned(),
            value: value.to_owned(),
            problem: problem.to_owned(),
        });
    }

    fn gateways(&mut self, gateways: &[GatewayReference], namespace: &str) -> Vec<GatewayRef> {
        if gateways.len() > GATEWAYS {
            let problem = format!(
                "names {} Gateways; at most {GATEWAYS} are allowed",
                gateways.len()
            );
            self.refuse("spec.gateways", "", &problem);
        }
        let mut read: Vec<GatewayRef> = Vec::new();
        for (at, gateway) in gateways.iter().enumerate() {
            let field = |name: &str| format!("spec.gateways[{at}].{name}");
            if let Some(namespace) = &gateway.namespace {
                self.checked(&field("namespace"), NamespaceName::new(namespace));
            }
            self.checked(&field("name"), ObjectName::new(&gateway.name));
            if let Some(listener) = &gateway.section_name {
                self.checked(&field("sectionName"), ObjectName::new(listener));
            }
            let gateway = GatewayRef {
                namespace: gateway.namespace.as_deref().unwrap_or(namespace).to_owned(),
                name: gateway.name.clone(),
                listener: gateway.section_name.clone(),
            };
            if read.contains(&gateway) {
                let problem = format!("names the Gateway {} twice", quote(&gateway.to_string()));
                self.refuse("spec.gateways", "", &problem);
            }
            read.push(gateway);
        }
        read
    }

    fn port(&mut self, field: &str, port: Option<i32>) -> Option<u16> {
        self.text(field, &port?.to_string(), value::port)
    }

    fn labels(&mut self, selector: &PodSelector) {
        const FIELD: &str = "spec.selector.matchLabels";
        match selector.match_labels.len() {
            0 => self.refuse(FIELD, "", "is empty; name one label or more"),
            many @ 65.. => {
                let problem = format!("names {many} labels; at most 64 are allowed");
                self.refuse(FIELD, "", &problem);
            }
            _ => {}
        }
        for (key, label) in &selector.match_labels {
            self.checked(FIELD, value::is_label(key, label));
        }
    }

    fn endpoint_picker(&mut self, spec: &ModelExposureSpec, config: &Config) -> EndpointPicker {
        const FIELD: &str = "spec.endpointPicker";
        let Some(picker) = &spec.endpoint_picker else {
            return EndpointPicker::default();
        };
        match (&picker.managed, &picker.service) {
            (Some(_), Some(_)) => {
                self.refuse(FIELD, "", TWO_PICKERS);
                EndpointPicker::default()
            }
            (None, Some(service)) => self.service(service),
            (Some(managed), None) => {
                EndpointPicker::Managed(Box::new(self.managed(managed, config)))
            }
            (None, None) => EndpointPicker::default(),
        }
    }

    fn service(&mut self, service: &ServiceReference) -> EndpointPicker {
        self.checked(
            "spec.endpointPicker.service.name",
            ServiceName::new(&service.name),
        );
        let port = self.port("spec.endpointPicker.service.port", service.port);
        EndpointPicker::Service {
            name: service.name.clone(),
            port: port.unwrap_or(ENDPOINT_PICKER_PORT),
        }
    }

    /// Reads what is said of an endpoint picker that is run, as the operator's configuration would be.
    fn managed(&mut self, managed: &ManagedEndpointPicker, config: &Config) -> PickerSettings {
        const FIELD: &str = "spec.endpointPicker.managed";
        let replicas = managed.replicas.and_then(|replicas| {
            let number = || u16::try_from(replicas).ok().and_then(NonZeroU16::new);
            let problem = || "is not a number of pods from 1 to 5".to_owned();
            self.text(&format!("{FIELD}.replicas"), &replicas.to_string(), |_| {
                number().ok_or_else(problem)
            })
        });
        let resources = managed
            .resources
            .as_ref()
            .and_then(|resources| self.typed(&format!("{FIELD}.resources"), resources));
        let plugins_config = (!managed.plugins_config.is_empty())
            .then(|| self.typed(&format!("{FIELD}.pluginsConfig"), &managed.plugins_config))
            .flatten();
        let settings = PickerSettings {
            replicas,
            resources,
            plugins_config,
        };
        if let Err(invalid) = config.endpoint_picker.with(&settings).check() {
            let field = invalid.field.replacen("endpointPicker", FIELD, 1);
            self.refuse(&field, "", &invalid.problem);
        }
        settings
    }

    /// Reads a part that the operator's configuration has, too, as it is read there.
    fn typed<T: DeserializeOwned>(&mut self, field: &str, part: &impl Serialize) -> Option<T> {
        let read = serde_path_to_error::deserialize(json!(part));
        read.map_err(|error: serde_path_to_error::Error<serde_json::Error>| {
            let path = error.path().to_string();
            let field = match path.as_str() {
                "." => field.to_owned(),
                path => format!("{field}.{path}"),
            };
            self.refuse(&field, "", &error.into_inner().to_string());
        })
        .ok()
    }
}
