//! `kthena-bridge crds`: the definition of ModelExposure, for whoever installs it.

use kthena_bridge_api::model_exposure::ModelExposure;
use kube::CustomResourceExt as _;

/// The definitions of our own kinds, as YAML.
///
/// # Errors
/// Never, but that is for YAML's writer to say.
pub(crate) fn definitions() -> Result<String, serde_yaml::Error> {
    serde_yaml::to_string(&ModelExposure::crd())
}
