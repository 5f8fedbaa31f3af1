//! Webhooks and policies of others that refuse our objects, never answer, or change them.

use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use testbed::TestBed;
use tokio::net::TcpListener;

use super::super::case::{Case, MODEL};
use super::super::life::Step;
use super::super::recorded::Settled;
use super::{
    Ends, PATIENCE, SHOWN, api, end_of_log, equal, logs, name_of, object_of, refused, text,
};

/// Which objects all of them are about: those of a kind in one namespace.
const OBJECTS: &str = "
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAME}}
    resourceRules: [{apiGroups: ['GROUP'], apiVersions: ['*'], operations: [CREATE, UPDATE], resources: [RESOURCE]}]
";
const DENIES: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: NAME}
spec:
  matchConstraints: OBJECTS
  validations: [{expression: 'false', message: WORDS}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: NAME}
spec: {policyName: NAME, validationActions: [Deny]}
";
const WORDS: &str = "nobody may have one of these";
const CALLS: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: NAME}
webhooks:
- name: silent.example.com
  clientConfig: {url: 'https://ADDRESS/'}
  failurePolicy: Fail
  timeoutSeconds: 2
  sideEffects: None
  admissionReviewVersions: [v1]
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAME}}
  rules: [{apiGroups: ['GROUP'], apiVersions: ['*'], operations: [CREATE, UPDATE], resources: [RESOURCE]}]
";
const CHANGES: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: NAME}
spec:
  matchConstraints: OBJECTS
  failurePolicy: Fail
  reinvocationPolicy: Never
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: |
        [JSONPatch{op: 'add', path: 'FIELD', value: VALUE}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: NAME}
spec: {policyName: NAME}
";
/// The most that an object is written that somebody changes each time: it is made, made the operator's, and then
/// applied twice, before it is left as it is.
const ENOUGH: u32 = 4;

/// What is in force until it is removed.
struct InForce<'a, S> {
    bed: &'a TestBed,
    objects: Vec<DynamicObject>,
    /// An object of the kind that is not written.
    canary: DynamicObject,
    api: Api<DynamicObject>,
    /// Whether it is in force, by what becomes of the canary.
    shows: S,
}

impl<'a, S: Fn(&kube::Result<DynamicObject>) -> bool> InForce<'a, S> {
    /// Applies it for the objects of a kind in the case's namespace, and waits until it `shows`.
    async fn apply(
        case: &Case<'a>,
        yaml: &str,
        kind: ChildKind,
        ends: &Ends,
        shows: S,
    ) -> Result<Self, String> {
        let ApiResource { group, plural, .. } = kind.api_resource();
        let yaml = yaml
            .replace("OBJECTS", OBJECTS)
            .replace("NAME", case.namespace.name())
            .replace("GROUP", &group)
            .replace("RESOURCE", &plural);
        let canary = object_of(case, ends.of(Step::Create)?, kind, "canary")?;
        let api = api(case, kind)?;
        let objects = case.bed.apply("", &yaml).await.map_err(text)?;
        let in_force = Self {
            bed: case.bed,
            objects,
            canary,
            api,
            shows,
        };
        match in_force.wait_until(true).await {
            Ok(()) => Ok(in_force),
            Err(error) => {
                in_force.remove().await?;
                Err(error)
            }
        }
    }

    async fn wait_until(&self, wanted: bool) -> Result<(), String> {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let what = format!("that it is in force is {wanted}");
        let waited = self.bed.wait_for(what, SHOWN, async || {
            let answer = self.api.create(&params, &self.canary).await;
            let is = (self.shows)(&answer);
            let known = is || answer.is_ok();
            let fits = known && is == wanted;
            fits.then_some(()).ok_or(format!("{answer:?}"))
        });
        waited.await.map_err(text)
    }

    /// Removes it, and waits until it does not show any more: the API server looks at its policies once a second.
    async fn remove(self) -> Result<(), String> {
        for object in self.objects.iter().rev() {
            let types = object.types.clone().unwrap_or_default();
            let gvk = GroupVersionKind::try_from(&types).map_err(text)?;
            let client = self.bed.client().map_err(text)?;
            let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::from_gvk(&gvk));
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let deleted = api.delete(name, &DeleteParams::default()).await;
            deleted.map_err(|e| format!("deleting {} {name}: {e}", types.kind))?;
        }
        self.wait_until(false).await
    }
}

fn plural(kind: ChildKind) -> String {
    kind.api_resource().plural
}

/// A policy denies a kind.
pub(super) async fn denied(
    case: &Case<'_>,
    kind: ChildKind,
    ends: &Ends,
) -> Result<Settled, String> {
    let denies = |answer: &kube::Result<_>| says(answer, WORDS);
    let yaml = DENIES.replace("WORDS", WORDS);
    let policy = InForce::apply(case, &yaml, kind, ends, denies).await?;
    refused::until_undone(case, &plural(kind), WORDS, ends, async || {
        policy.remove().await
    })
    .await
}

/// A webhook for a kind never answers.
pub(super) async fn unanswered(
    case: &Case<'_>,
    kind: ChildKind,
    ends: &Ends,
) -> Result<Settled, String> {
    // Nobody accepts what it is asked.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.map_err(text)?;
    let address = silent.local_addr().map_err(text)?.to_string();
    let words = "failed calling webhook";
    let fails = |answer: &kube::Result<_>| says(answer, words);
    let yaml = CALLS.replace("ADDRESS", &address);
    let webhook = InForce::apply(case, &yaml, kind, ends, fails).await?;
    refused::until_undone(case, &plural(kind), words, ends, async || {
        webhook.remove().await
    })
    .await
}

fn says(answer: &kube::Result<DynamicObject>, words: &str) -> bool {
    matches!(answer, Err(kube::Error::Api(status)) if status.message.contains(words))
}

/// A policy changes what we write: it is said, and not written again and again. Whoever does that is expected to
/// go on, so that nothing looks for its end: another operator, or another wish, does.
pub(super) async fn changed(
    case: &Case<'_>,
    kind: ChildKind,
    ends: &Ends,
) -> Result<Settled, String> {
    let (field, value) = match kind {
        ChildKind::HTTPRoute => ("/spec/hostnames", "['changed.example.com']"),
        _ => ("/spec/replicas", "2"),
    };
    let before = ends.of(Step::Create)?.object(kind, &name_of(kind));
    let before = before.and_then(|object| object.pointer(field).cloned());
    let changes = |answer: &kube::Result<DynamicObject>| {
        let live = answer.as_ref().ok();
        let live = live.and_then(|object| serde_json::to_value(object).ok());
        live.is_some_and(|live| live.pointer(field) != before.as_ref())
    };
    let yaml = CHANGES.replace("FIELD", field).replace("VALUE", value);
    let policy = InForce::apply(case, &yaml, kind, ends, changes).await?;
    let since = case.begin(Vec::new());
    let from = end_of_log(case)?;
    let lived = async {
        Step::Create.take(case, MODEL).await.map_err(text)?;
        let name = name_of(kind);
        let written = case.settle(&since, PATIENCE, |state| {
            let object = state.object(kind, &name);
            object.map(drop).ok_or_else(|| state.outline())
        });
        written.await?;
        logs(case, from, "the API server keeps another version").await?;
        let wrote = case.written(&since, kind, &name);
        if wrote > ENOUGH {
            return Err(format!("it was written {wrote} times"));
        }
        Ok(())
    };
    let lived = lived.await;
    policy.remove().await?;
    lived?;
    let since = case.begin(Vec::new());
    case.operator.start_anew().await.map_err(text)?;
    let served = ends.of(Step::Create)?;
    case.settle(&since, PATIENCE, |state| equal(state, served))
        .await
}
