//! ModelExposures as tests look at them.

use kthena_bridge_api::model_exposure::ModelExposure;
use kube::Api;
use testbed::Namespace;

use crate::LIMIT;

/// The client of those of a namespace.
pub(crate) fn api(namespace: &Namespace<'_>) -> Api<ModelExposure> {
    Api::namespaced(namespace.bed().client().unwrap(), namespace.name())
}

/// One, once a condition of it has a reason.
pub(crate) async fn wait_for(
    namespace: &Namespace<'_>,
    name: &str,
    type_: &str,
    reason: &str,
) -> ModelExposure {
    let api = api(namespace);
    let what = format!("{type_} of ModelExposure {name} has the reason {reason}");
    let looked = namespace.bed().wait_for(what, LIMIT, async || {
        let exposure = api.get(name).await.map_err(|e| e.to_string())?;
        let mut conditions = exposure.status.iter().flat_map(|s| &s.conditions);
        if conditions.any(|c| c.type_ == type_ && c.reason == reason) {
            return Ok(exposure);
        }
        Err(format!("{:#?}", exposure.status))
    });
    looked.await.unwrap()
}

/// What a condition of one says; nothing where it is not there.
pub(crate) fn message<'a>(exposure: &'a ModelExposure, type_: &str) -> &'a str {
    let mut conditions = exposure.status.iter().flat_map(|s| &s.conditions);
    let of_type = conditions.find(|c| c.type_ == type_);
    of_type.map_or("", |c| c.message.as_str())
}
