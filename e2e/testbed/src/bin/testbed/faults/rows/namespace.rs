//! A namespace that takes no more: a quota that is used up, and its end.

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::super::case::{Case, MODEL};
use super::super::life::Step;
use super::super::recorded::Settled;
use super::{Ends, PATIENCE, SHOWN, refused, text};

const QUOTA: &str = "full";
/// The most writes that are refused while the namespace ends: each object that goes changes what there is to do, and
/// nothing is done again by itself.
const REFUSED: usize = 48;

/// There may be none of a kind, or not one more.
pub(super) async fn quota(
    case: &Case<'_>,
    kind: ChildKind,
    ends: &Ends,
) -> Result<Settled, String> {
    let resource = kind.api_resource();
    let count = match resource.group.as_str() {
        "" => format!("count/{}", resource.plural),
        group => format!("count/{}.{group}", resource.plural),
    };
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": QUOTA},
        "spec": {"hard": {&count: "0"}}});
    let applied = case.namespace.apply(&quota.to_string()).await;
    applied.map_err(text)?;
    let client = case.bed.client().map_err(text)?;
    let quotas: Api<ResourceQuota> = Api::namespaced(client, case.namespace.name());
    let what = format!("the quota of {count} is enforced");
    let enforced = case.bed.wait_for(what, SHOWN, async || {
        let quota = quotas.get(QUOTA).await.map_err(text)?;
        let hard = quota.status.and_then(|status| status.hard);
        let hard = hard.unwrap_or_default();
        let there = hard.contains_key(&count);
        there.then_some(()).ok_or_else(|| format!("{hard:?}"))
    });
    enforced.await.map_err(text)?;
    let delete = async || {
        let deleted = quotas.delete(QUOTA, &DeleteParams::default()).await;
        deleted.map(drop).map_err(text)
    };
    refused::until_undone(case, &resource.plural, "exceeded quota", ends, delete).await
}

/// The namespace ends while somebody's finalizer keeps what asks for the exposure.
pub(super) async fn ends(case: &Case<'_>, ends: &Ends) -> Result<Settled, String> {
    ends.live(case, Step::Create).await?;
    let model = case.namespace.model_named(MODEL).map_err(text)?;
    let asking = model.asking().map_err(text)?;
    let keep = async |finalizers: Value| {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        let patched = asking.patch(MODEL, &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(text)
    };
    keep(json!(["example.com/keep"])).await?;
    let client = case.bed.client().map_err(text)?;
    let namespaces: Api<Namespace> = Api::all(client);
    let name = case.namespace.name();
    let begun = case.begin(Vec::new());
    let deleted = namespaces.delete(name, &DeleteParams::default()).await;
    deleted.map_err(|e| format!("deleting the namespace: {e}"))?;
    // What is gone is to be made again, until the Model itself is told to go.
    refused::says(case, "because it is being terminated").await?;
    case.settle(&begun, PATIENCE, |_| Ok(())).await?;
    let refused = case
        .seen(&begun)
        .into_iter()
        .filter(|seen| seen.request.writes());
    let refused = refused.filter(|seen| seen.code == Some(403)).count();
    if refused > REFUSED {
        return Err(format!("{refused} writes were refused"));
    }
    let since = case.begin(Vec::new());
    keep(json!([])).await?;
    let gone = case.bed.wait_for("the namespace is gone", SHOWN, async || {
        let there = namespaces.get_opt(name).await.map_err(text)?;
        there.map_or(Ok(()), |there| Err(format!("{:?}", there.status)))
    });
    gone.await.map_err(text)?;
    case.settle(&since, PATIENCE, |state| {
        let nothing = state.outline().is_empty();
        nothing.then_some(()).ok_or_else(|| state.outline())
    })
    .await
}
