//! The endpoint picker.

use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testbed::{Error, Model, Result};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::annotations::annotated;
use super::case::{Case, GATEWAY, PICKERS, SERVED, expose};
use super::drift::deleted_while_paused;
use super::probe::Question;
use super::{MODEL, Situation, answers, fails};

const PICKER: &str = "demo-epp";
/// The role that all endpoint pickers have.
const ROLE: &str = "kthena-bridge-endpoint-picker";

pub(super) fn situations() -> Vec<Situation> {
    let works = answers("Accepted", "Programmed");
    let not_ready = fails("Accepted", "EndpointPickerNotReady");
    vec![
        Situation::from_nothing(
            "picker killed, FailOpen, by the Model's name",
            not_ready,
            async |case| killed(case, "FailOpen", false).await,
        ),
        // The only one that fails open: nothing has to be rewritten.
        Situation::from_nothing(
            "picker killed, FailOpen, by the served name",
            works,
            async |case| killed(case, "FailOpen", true).await,
        ),
        Situation::from_nothing(
            "picker killed, FailClose, by the Model's name",
            not_ready,
            async |case| killed(case, "FailClose", false).await,
        ),
        Situation::from_nothing(
            "picker killed, FailClose, by the served name",
            not_ready,
            async |case| killed(case, "FailClose", true).await,
        ),
        Situation::new("picker's image missing", not_ready, image_missing),
        Situation::new("picker without rights", not_ready, without_rights).alone(),
        Situation::new(
            "picker's configuration broken by hand",
            works,
            configuration_broken,
        ),
        Situation::new(
            "picker's configuration broken, paused",
            not_ready,
            configuration_broken_while_paused,
        ),
        Situation::new(
            "picker's Deployment deleted, paused",
            not_ready,
            async |case, model| {
                deleted_while_paused(case, model, ChildKind::Deployment, PICKER).await
            },
        ),
        Situation::new(
            "picker's Service deleted, paused",
            fails("Accepted", "PoolNotResolved"),
            async |case, model| deleted_while_paused(case, model, ChildKind::Service, PICKER).await,
        ),
        Situation::new("quota leaves no pod for the picker", not_ready, no_pod),
        Situation::from_nothing(
            "quota leaves no Service for the picker",
            fails("Accepted", "ApplyFailed"),
            no_service,
        ),
        // Istio says so of the pool; the picker comes first in the chain of causes.
        Situation::new(
            "somebody else's picker has no Service",
            not_ready,
            async |case, model| annotated(case, model, ("endpoint-picker", "mine")).await,
        ),
        Situation::new(
            "somebody else's picker has no pod",
            not_ready,
            somebody_elses,
        ),
    ]
}

/// A kubelet starts it again, and would again and again, so it is killed again and again.
async fn killed(case: &Case<'_>, failure_mode: &str, by_served_name: bool) -> Result<()> {
    let gateway = case.namespace.gateway(GATEWAY).await?;
    let model = case.namespace.model(MODEL).await?;
    let mut annotations = vec![("failure-mode", failure_mode)];
    let mut question = Question::of(&model, gateway);
    if by_served_name {
        annotations.push(("model-names", SERVED));
        SERVED.clone_into(&mut question.model);
    }
    case.observe(&model, question)?;
    expose(&model, &annotations).await?;
    case.works().await?;
    let killer = Killer::of(case.namespace.name());
    case.broken_by(async {
        killer.run(true);
        case.wait_for_pods(PICKERS, 0, 1).await.map(drop)
    })
    .await;
    case.undone_by(async {
        killer.run(false);
        Ok(())
    })
    .await;
    Ok(())
}

async fn image_missing(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    case.pause(model).await?;
    let failed = |e: kube::Error| Error::Other(format!("patching Deployment {PICKER}: {e}"));
    let image = json!({"name": "epp", "image": "example.com/no-such-image:1"});
    let spec = json!({"spec": {"template": {"spec": {"containers": [image]}}}});
    let deployments = model.children_api(ChildKind::Deployment)?;
    case.broken_by(async {
        let patch = Patch::Strategic(&spec);
        let patched = deployments
            .patch(PICKER, &PatchParams::default(), &patch)
            .await;
        patched.map_err(failed).map(drop)
    })
    .await;
    case.undone_by(model.annotate(&[("paused", None)])).await;
    Ok(())
}

/// It reads its pool, its pods and more by a role that all pickers share.
async fn without_rights(case: &Case<'_>, _: &Model<'_>) -> Result<()> {
    let roles: Api<ClusterRole> = Api::all(case.client()?);
    let failed = |e: kube::Error| Error::Other(format!("ClusterRole {ROLE}: {e}"));
    let rules = json!(roles.get(ROLE).await.map_err(failed)?.rules);
    let set = async |rules: Value| {
        let patch = Patch::Merge(json!({"rules": rules}));
        let patched = roles.patch(ROLE, &PatchParams::default(), &patch).await;
        patched.map_err(failed).map(drop)
    };
    case.broken_by(async {
        set(json!([])).await?;
        case.delete_pods(PICKERS).await
    })
    .await;
    case.undone_by(set(rules)).await;
    Ok(())
}

async fn break_configuration(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    let broken = json!({"data": {"default-plugins.yaml": "broken"}});
    case.patch(model, ChildKind::ConfigMap, PICKER, &broken)
        .await
}

async fn wait_until_mended(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    case.wait_for("the ConfigMap is mended", async || {
        match model.child(ChildKind::ConfigMap, PICKER).await? {
            Some(map) if map.data["data"]["default-plugins.yaml"] != "broken" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// It is mended before the picker that is started next reads it.
async fn configuration_broken(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    case.broken_by(async {
        break_configuration(case, model).await?;
        wait_until_mended(case, model).await?;
        case.delete_pods(PICKERS).await?;
        case.wait_for_pods(PICKERS, 1, 1).await.map(drop)
    })
    .await;
    Ok(())
}

async fn configuration_broken_while_paused(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    case.pause(model).await?;
    case.broken_by(async {
        break_configuration(case, model).await?;
        case.delete_pods(PICKERS).await
    })
    .await;
    case.undone_by(async {
        model.annotate(&[("paused", None)]).await?;
        wait_until_mended(case, model).await?;
        // The kubelet of the bed does not refresh the files of a pod that runs.
        case.delete_pods(PICKERS).await
    })
    .await;
    Ok(())
}

async fn no_pod(case: &Case<'_>, _: &Model<'_>) -> Result<()> {
    case.broken_by(async {
        apply_quota(case, "pods", "1").await?;
        case.delete_pods(PICKERS).await
    })
    .await;
    case.undone_by(delete_quota(case)).await;
    Ok(())
}

async fn no_service(case: &Case<'_>) -> Result<()> {
    let model = case.active().await?;
    apply_quota(case, "services", "0").await?;
    case.broken_by(expose(&model, &[])).await;
    case.undone_by(delete_quota(case)).await;
    Ok(())
}

const QUOTA: &str = "truth";

/// Makes a quota, and waits until it is enforced.
async fn apply_quota(case: &Case<'_>, resource: &str, hard: &str) -> Result<()> {
    case.apply(&format!(
        "
apiVersion: v1
kind: ResourceQuota
metadata: {{name: {QUOTA}}}
spec: {{hard: {{{resource}: '{hard}'}}}}
"
    ))
    .await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(case.client()?, case.namespace.name());
    case.wait_for("the quota is enforced", async || {
        let quota = quotas.get(QUOTA).await.map_err(|e| e.to_string())?;
        let hard = quota.status.and_then(|s| s.hard).unwrap_or_default();
        if hard.contains_key(resource) {
            Ok(())
        } else {
            Err(format!("{hard:?}"))
        }
    })
    .await
}

async fn delete_quota(case: &Case<'_>) -> Result<()> {
    let quotas: Api<ResourceQuota> = Api::namespaced(case.client()?, case.namespace.name());
    let deleted = quotas.delete(QUOTA, &DeleteParams::default()).await;
    deleted
        .map_err(|e| Error::Other(format!("deleting the quota: {e}")))
        .map(drop)
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: mine}
spec:
  selector: {app: nobody}
  ports: [{name: grpc-ext-proc, port: 9002, appProtocol: kubernetes.io/h2c}]
";

async fn somebody_elses(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    case.apply(SERVICE).await?;
    case.broken_by(model.annotate(&[("endpoint-picker", Some("mine"))]))
        .await;
    case.undone_by(async {
        model.annotate(&[("endpoint-picker", None)]).await?;
        case.delete(model, ChildKind::Service, "mine").await
    })
    .await;
    Ok(())
}

/// Kills the endpoint picker of a namespace whenever it runs, while it is told to; it ends when it is
/// dropped.
struct Killer {
    running: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Killer {
    fn of(namespace: &str) -> Self {
        let running = watch::Sender::new(false);
        let flag = format!("--pool-namespace={namespace}");
        let mut told = running.subscribe();
        let task = tokio::spawn(async move {
            // An error means that the killer was dropped.
            while told.wait_for(|run| *run).await.is_ok() {
                for pid in pickers(&flag) {
                    let kill = Command::new("sh")
                        .args(["-c", "kill -KILL \"$0\"", &pid])
                        .status();
                    if let Err(error) = kill.await {
                        tracing::warn!(%error, "killing an endpoint picker");
                    }
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        Self { running, task }
    }

    fn run(&self, run: bool) {
        self.running.send_replace(run);
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The processes of endpoint pickers that have this argument.
fn pickers(flag: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        // The bed's kubelet gives every program this name. Those that start it have its arguments, too.
        words.next() == Some(b"/.image/run") && words.any(|word| word == flag.as_bytes())
    })
    .collect()
}
