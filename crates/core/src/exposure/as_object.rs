//! A ModelExposure that says what a Model's annotations say.

use std::collections::BTreeMap;

use kthena_bridge_api::annotation as key;
use kthena_bridge_api::model_exposure::{
    EndpointPickerSpec, GatewayReference, ModelExposureSpec, PodSelector, ServiceReference,
    TargetReference,
};

use super::{EndpointPicker, Exposure, GatewayRef, InvalidSettings};
use crate::config::Config;
use crate::target::TargetKind;

impl Exposure {
    /// What a ModelExposure has to say to mean the same as the annotations of the Model `namespace`/`name`; nothing
    /// when it is not to be exposed. What the annotations leave to the operator's configuration, it leaves, too.
    ///
    /// # Errors
    /// Every annotation that is not understood.
    pub fn as_object(
        namespace: &str,
        name: &str,
        annotations: &BTreeMap<String, String>,
        config: &Config,
    ) -> Result<Option<ModelExposureSpec>, InvalidSettings> {
        let Some(exposure) = Self::parse(namespace, name, annotations, config)? else {
            return Ok(None);
        };
        let says = |key: &str| annotations.contains_key(key);
        let gateway = |gateway: &GatewayRef| GatewayReference {
            namespace: (gateway.namespace != namespace).then(|| gateway.namespace.clone()),
            name: gateway.name.clone(),
            section_name: gateway.listener.clone(),
        };
        let gateways = exposure.gateways.iter().map(gateway);
        let service = match exposure.endpoint_picker {
            EndpointPicker::Managed(_) => None,
            EndpointPicker::Service { name, port } => Some(ServiceReference {
                name,
                port: Some(port.into()),
            }),
        };
        Ok(Some(ModelExposureSpec {
            target_ref: TargetReference {
                kind: TargetKind::ModelBooster.as_str().to_owned(),
                name: name.to_owned(),
            },
            gateways: gateways.filter(|_| says(key::GATEWAY)).collect(),
            hostnames: if says(key::HOSTNAMES) {
                exposure.hostnames
            } else {
                Vec::new()
            },
            path: says(key::PATH).then_some(exposure.path),
            match_model: exposure.match_model,
            model_names: exposure.model_names.unwrap_or_default(),
            objectives: exposure.objectives,
            request_timeout: says(key::REQUEST_TIMEOUT).then_some(exposure.request_timeout),
            failure_mode: says(key::FAILURE_MODE)
                .then(|| exposure.failure_mode.as_str().to_owned()),
            endpoint_picker: service.map(|service| EndpointPickerSpec {
                managed: None,
                service: Some(service),
            }),
            target_port: exposure.target_port.map(Into::into),
            selector: exposure
                .pod_selector
                .map(|match_labels| PodSelector { match_labels }),
            paused: exposure.paused,
        }))
    }
}
