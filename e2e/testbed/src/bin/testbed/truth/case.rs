//! A situation as it runs: what it is given, and what is recorded of it.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kthena_bridge_api::child::ChildKind;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use testbed::health::{judge, script_of};
use testbed::{Error, Model, Namespace, Result, TestBed, exposed_by, is_ready};
use tokio::time::sleep;

use super::probe::{Probe, Question};
use super::timeline::{Asking, Disagreement};
use super::{Expect, MODEL, Situation};

/// The Gateway of a situation that says nothing else.
pub(super) const GATEWAY: &str = "inference-gateway";
/// How long anything may take that is no matter of the status.
pub(super) const LIMIT: Duration = Duration::from_secs(40);
/// How long request and status have to stay as expected to count as settled.
const SETTLED: Duration = Duration::from_millis(700);
/// Between two looks at what the probe has seen.
const PAUSE: Duration = Duration::from_millis(40);

/// One half of a situation: the break, or its undoing.
#[derive(Clone, Debug, Default)]
pub(super) struct Half {
    /// What requests and status were in the end.
    pub(super) request: String,
    pub(super) accepted: String,
    pub(super) programmed: String,
    /// Accepted's reason unless it is True, else Programmed's.
    pub(super) reason: String,
    /// How long the status was not right after the request was as expected; none: it never was.
    pub(super) right_after: Option<Duration>,
    /// For how long request and Programmed said different things.
    pub(super) disagreed: Disagreement,
    /// Both conditions in full, for a person.
    pub(super) conditions: String,
    /// How healthy Argo CD takes it for.
    pub(super) health: String,
}

/// What became of a situation.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) broken: Option<Half>,
    pub(super) undone: Option<Half>,
    /// What was not as it has to be.
    pub(super) problems: Vec<String>,
    /// How it came to that.
    pub(super) history: Vec<String>,
}

impl Record {
    /// Whether everything works in the end, if there was no problem.
    pub(super) fn works_again(&self, expect: &Expect) -> bool {
        self.undone.is_some() || (self.broken.is_some() && expect.works())
    }
}

/// A Model that is exposed on a Gateway of its namespace. One that works as before after a situation
/// serves the next one: most of what a situation costs is the start of its endpoint picker.
pub(super) struct Exposure<'b> {
    pub(super) namespace: Namespace<'b>,
    pub(super) model: Model<'b>,
    pub(super) gateway: Ipv4Addr,
}

impl<'b> Exposure<'b> {
    pub(super) async fn new(bed: &'b TestBed) -> Result<Self> {
        let namespace = bed.namespace("truth").await?;
        let gateway = namespace.gateway(GATEWAY).await?;
        let model = namespace.model(MODEL).await?;
        expose(&model, &[]).await?;
        Ok(Self {
            namespace,
            model,
            gateway,
        })
    }

    /// Whether the Model asks for what it asked for at first.
    pub(super) async fn is_as_before(&self) -> bool {
        let asked = self.model.asks_for().await;
        asked.is_ok_and(|keys| keys == ["expose", "gateway"])
    }
}

/// A situation that runs, in a namespace that no other one uses meanwhile.
pub(super) struct Case<'b> {
    pub(super) bed: &'b TestBed,
    pub(super) namespace: Namespace<'b>,
    expect: Expect,
    patience: Duration,
    may_disagree: bool,
    probe: RefCell<Option<Probe>>,
    /// From when on request and status have to agree.
    clock: Cell<Instant>,
    record: RefCell<Record>,
}

impl<'b> Case<'b> {
    pub(super) fn new(bed: &'b TestBed, namespace: Namespace<'b>, situation: &Situation) -> Self {
        Self {
            bed,
            namespace,
            expect: situation.expect,
            patience: situation.patience,
            may_disagree: situation.limit.is_some(),
            probe: RefCell::default(),
            clock: Cell::new(Instant::now()),
            record: RefCell::default(),
        }
    }

    pub(super) fn finish(self) -> (Record, Namespace<'b>) {
        let mut record = self.record.into_inner();
        let probe = self.probe.into_inner();
        record.history = probe
            .map(|probe| probe.timeline().history())
            .unwrap_or_default();
        (record, self.namespace)
    }

    // What a situation begins with.

    /// A Model that is exposed with these annotations on a Gateway, and works.
    pub(super) async fn exposed(&self, annotations: &[(&str, &str)]) -> Result<Model<'b>> {
        let gateway = self.namespace.gateway(GATEWAY).await?;
        let model = self.namespace.model(MODEL).await?;
        self.observe(&model, Question::of(&model, gateway))?;
        expose(&model, annotations).await?;
        self.works().await?;
        Ok(model)
    }

    /// From now on, the objects of the Model stay as they are.
    pub(super) async fn pause(&self, model: &Model<'_>) -> Result<()> {
        model.annotate(&[("paused", Some("true"))]).await?;
        let paused = model.wait_for_message("Accepted", "paused").await;
        paused.map(drop)
    }

    /// A Model that is active and not exposed, and a Gateway.
    pub(super) async fn active(&self) -> Result<Model<'b>> {
        let gateway = self.namespace.gateway(GATEWAY).await?;
        let model = self.namespace.model(MODEL).await?;
        self.observe(&model, Question::of(&model, gateway))?;
        model.wait_for_condition("Active", "True").await?;
        Ok(model)
    }

    /// From now on, this is what is asked, and of this Model the status is read.
    pub(super) fn observe(&self, model: &Model<'_>, question: Question) -> Result<()> {
        self.probe.replace(Some(Probe::start(model, question)?));
        self.start_clock();
        Ok(())
    }

    /// The Gateway that is asked.
    pub(super) fn gateway(&self) -> Option<Ipv4Addr> {
        let probe = self.probe.borrow();
        probe.as_ref()?.question().gateways.first().copied()
    }

    /// Changes what is asked.
    pub(super) fn ask(&self, change: impl FnOnce(&mut Question)) {
        if let Some(probe) = &*self.probe.borrow() {
            change(&mut probe.question());
        }
    }

    /// Waits until the exposure works.
    pub(super) async fn works(&self) -> Result<()> {
        let half = self.watch(&Expect::WORKS, LIMIT).await;
        self.disagreement("being exposed", half.disagreed);
        match half.right_after {
            Some(_) => Ok(()),
            None => Err(Error::Other(format!(
                "it did not work in the first place: {}; {}",
                half.request, half.conditions
            ))),
        }
    }

    // The two halves.

    /// Makes the one change, and watches until requests and status are as the situation says.
    pub(super) fn broken_by<'c>(
        &'c self,
        change: impl Future<Output = Result<()>> + 'c,
    ) -> LocalBoxFuture<'c, ()> {
        let change = change.boxed_local();
        async {
            let half = self.half("broken", change, &self.expect).await;
            self.record.borrow_mut().broken = Some(half);
        }
        .boxed_local()
    }

    /// Takes it back, and watches until everything works again.
    pub(super) fn undone_by<'c>(
        &'c self,
        change: impl Future<Output = Result<()>> + 'c,
    ) -> LocalBoxFuture<'c, ()> {
        let change = change.boxed_local();
        async {
            let half = self.half("undone", change, &Expect::WORKS).await;
            if let Some(late) = half.right_after.filter(|after| *after > super::RECOVERY) {
                self.problem(format!(
                    "undone: the status was right {late:.1?} after the first answer"
                ));
            }
            self.record.borrow_mut().undone = Some(half);
        }
        .boxed_local()
    }

    /// Request and status have to agree from now on: the operator was stopped until now.
    pub(super) fn start_clock(&self) {
        self.clock.set(Instant::now());
    }

    /// A change that fails is noted, not returned: the other half takes back what it did.
    async fn half(
        &self,
        name: &str,
        change: LocalBoxFuture<'_, Result<()>>,
        expect: &Expect,
    ) -> Half {
        self.start_clock();
        if let Err(error) = change.await {
            self.problem(format!("{name}: {error}"));
        }
        let mut half = self.watch(expect, self.patience).await;
        if half.right_after.is_none() {
            self.problem(format!(
                "{name}: not as expected within {:?}: expected {expect}; seen {}; {}",
                self.patience, half.request, half.conditions
            ));
        }
        match self.health().await {
            Ok(health) => half.health = health,
            Err(problem) => self.problem(format!("{name}: {problem}; {}", half.conditions)),
        }
        self.disagreement(name, half.disagreed);
        half
    }

    /// What Argo CD says of what asks for the exposure, once that and Flux agree with its conditions. For a moment both
    /// may say that it is on its way: a change was not seen yet that changes nothing for requests.
    async fn health(&self) -> Result<String> {
        let deadline = Instant::now() + super::DISAGREEMENT;
        loop {
            match self.health_now().await {
                Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
                health => return health,
            }
        }
    }

    /// Nothing where nobody asks.
    async fn health_now(&self) -> Result<String> {
        let asks = {
            let probe = self.probe.borrow();
            let asking = probe.as_ref().and_then(|p| p.timeline().asking().cloned());
            asking.filter(Asking::asks)
        };
        let Some(asking) = asks else {
            return Ok("-".to_owned());
        };
        let failed = |e: &dyn std::fmt::Display| Error::Other(format!("judging its health: {e}"));
        let judged = asking.object.clone();
        let verdicts =
            tokio::task::spawn_blocking(move || judge(script_of(exposed_by()), &[judged])).await;
        let verdicts = verdicts.map_err(|e| failed(&e))??;
        let verdict = verdicts.first().ok_or_else(|| failed(&"no verdict"))?;
        asking.agrees_with(verdict).map_err(Error::Other)?;
        Ok(verdict.argo_cd.status.clone())
    }

    fn disagreement(&self, name: &str, disagreed: Disagreement) {
        if disagreed.lasted > super::DISAGREEMENT && !self.may_disagree {
            self.problem(format!("{name}: {disagreed}"));
        }
    }

    async fn watch(&self, expect: &Expect, patience: Duration) -> Half {
        let deadline = Instant::now() + patience;
        loop {
            if let Err(error) = self.bed.check() {
                self.problem(error.to_string());
                return self.seen(expect, Instant::now(), true);
            }
            let now = Instant::now();
            let half = self.seen(expect, now, now >= deadline);
            if half.right_after.is_some() || now >= deadline {
                return half;
            }
            sleep(PAUSE).await;
        }
    }

    /// What the probe has seen; right only when it has been for a while, or at the `end`.
    fn seen(&self, expect: &Expect, now: Instant, end: bool) -> Half {
        let clock = self.clock.get();
        let probe = self.probe.borrow();
        let Some(probe) = &*probe else {
            return Half::default();
        };
        let timeline = probe.timeline();
        let status = timeline.last_status().cloned().unwrap_or_default();
        let as_expected = timeline.as_expected(expect, clock).filter(|found| {
            end || now.saturating_duration_since(found.request.max(found.status)) >= SETTLED
        });
        let (accepted, programmed) = (status.accepted.as_ref(), status.programmed.as_ref());
        let first = accepted.filter(|c| c.status != "True").or(programmed);
        Half {
            request: timeline
                .last_answer()
                .map(|a| a.text.clone())
                .unwrap_or_default(),
            accepted: value(accepted),
            programmed: value(programmed),
            reason: first.map_or_else(|| "-".to_owned(), |c| c.reason.clone()),
            right_after: as_expected
                .map(|found| found.status.saturating_duration_since(found.request)),
            disagreed: timeline.longest_disagreement(clock, now),
            conditions: format!("{}; {}", in_full(accepted), in_full(programmed)),
            health: String::new(),
        }
    }

    pub(super) fn problem(&self, problem: String) {
        self.record.borrow_mut().problems.push(problem);
    }

    // What changes are made of.

    pub(super) fn client(&self) -> Result<Client> {
        self.bed.client()
    }

    /// Waits for something that is no matter of the status.
    pub(super) async fn wait_for<T>(
        &self,
        what: &str,
        look: impl AsyncFnMut() -> Result<T, String>,
    ) -> Result<T> {
        self.bed.wait_for(what, LIMIT, look).await
    }

    pub(super) async fn apply(&self, yaml: &str) -> Result<()> {
        self.namespace.apply(yaml).await.map(drop)
    }

    pub(super) async fn gateway_address(&self, name: &str) -> Result<Ipv4Addr> {
        self.bed.gateway_address(self.namespace.name(), name).await
    }

    /// Waits until requests fail, whatever the status says.
    pub(super) async fn fails_for_now(&self) -> Result<()> {
        self.wait_for("requests fail", async || {
            let probe = self.probe.borrow();
            let last = probe
                .as_ref()
                .and_then(|probe| probe.timeline().last_answer().cloned());
            if last.as_ref().is_some_and(|answer| !answer.ok) {
                Ok(())
            } else {
                Err(format!("{last:?}"))
            }
        })
        .await
    }

    pub(super) async fn pods(&self, labels: &str) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client()?, self.namespace.name());
        let found = api.list(&ListParams::default().labels(labels)).await;
        Ok(found
            .map_err(|e| Error::Other(format!("listing pods: {e}")))?
            .items)
    }

    /// Deletes pods at once.
    pub(super) async fn delete_pods(&self, labels: &str) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client()?, self.namespace.name());
        let params = ListParams::default().labels(labels);
        let deleted = api
            .delete_collection(&DeleteParams::default().grace_period(0), &params)
            .await;
        deleted
            .map_err(|e| Error::Other(format!("deleting pods: {e}")))
            .map(drop)
    }

    /// Tells the simulated engine of a pod how to behave.
    pub(super) async fn simulate(&self, pod: &Pod, behaviour: &Value) -> Result<()> {
        let ip = pod
            .status
            .as_ref()
            .and_then(|s| s.pod_ip.clone())
            .unwrap_or_default();
        let answer = self
            .bed
            .post(&format!("http://{ip}:8000/sim"), &[], behaviour)
            .await;
        match answer.map_err(Error::Other)? {
            answer if answer.status == 200 => Ok(()),
            answer => Err(Error::Other(format!("/sim: {answer:?}"))),
        }
    }

    /// Makes the engines of all pods of the Model say that they are well, or not.
    pub(super) async fn set_healthy(&self, healthy: bool) -> Result<()> {
        for pod in self.pods(ENGINES).await? {
            self.simulate(&pod, &json!({"healthy": healthy})).await?;
        }
        Ok(())
    }

    /// Waits until this many pods with these labels are ready, and no more are there.
    pub(super) async fn wait_for_pods(
        &self,
        labels: &str,
        ready: usize,
        all: usize,
    ) -> Result<Vec<Pod>> {
        let what = format!("{ready} of {all} pods with {labels} are ready");
        self.wait_for(&what, async || {
            let pods = self.pods(labels).await.map_err(|e| e.to_string())?;
            let are = pods.iter().filter(|pod| is_ready(pod)).count();
            if are == ready && pods.len() == all {
                Ok(pods)
            } else {
                Err(format!("{are} of {}", pods.len()))
            }
        })
        .await
    }

    /// Merges a patch into an object of a kind that the bridge writes.
    pub(super) async fn patch(
        &self,
        model: &Model<'_>,
        kind: ChildKind,
        name: &str,
        patch: &Value,
    ) -> Result<()> {
        let api = model.children_api(kind)?;
        let patched = api
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched
            .map_err(|e| Error::Other(format!("patching {kind} {name}: {e}")))
            .map(drop)
    }

    /// Deletes an object of a kind that the bridge writes.
    pub(super) async fn delete(
        &self,
        model: &Model<'_>,
        kind: ChildKind,
        name: &str,
    ) -> Result<()> {
        let deleted = model
            .children_api(kind)?
            .delete(name, &DeleteParams::default())
            .await;
        deleted
            .map_err(|e| Error::Other(format!("deleting {kind} {name}: {e}")))
            .map(drop)
    }

    /// Does something to an object, and waits until the bridge has written that object since.
    pub(super) async fn repaired_after(
        &self,
        model: &Model<'_>,
        kind: ChildKind,
        change: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let before = model
            .child(kind, model.name())
            .await
            .map_err(Error::Other)?;
        let spec = before
            .map(|object| object.data["spec"].clone())
            .unwrap_or_default();
        change.await?;
        self.wait_for(&format!("the {kind} is as it was"), async || {
            match model.child(kind, model.name()).await? {
                Some(object) if object.data["spec"] == spec => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }
}

/// Exposes a Model, and waits for nothing. The Gateway is the usual one unless an annotation says another.
pub(super) async fn expose(model: &Model<'_>, annotations: &[(&str, &str)]) -> Result<()> {
    let annotations = annotations.iter().map(|(key, value)| (*key, Some(*value)));
    let annotations: Vec<_> = annotations.collect();
    model.annotate_exposed(GATEWAY, &annotations).await
}

/// The name that the engine of Kthena's example serves.
pub(super) const SERVED: &str = "Qwen2.5-0.5B-Instruct";
/// The pods of the Model's engine.
pub(super) const ENGINES: &str = "modelserving.volcano.sh/entry=true";
/// The pods of the endpoint picker that the bridge runs.
pub(super) const PICKERS: &str = "kthena-bridge.io/endpoint-picker";

/// A Gateway whose one listener has these fields beside its port. Applied again, it changes.
pub(super) fn gateway_yaml(name: &str, listener: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec:
  gatewayClassName: istio
  listeners: [{{port: 80, {listener}}}]
"
    )
}

fn value(condition: Option<&Condition>) -> String {
    condition.map_or_else(|| "-".to_owned(), |c| c.status.clone())
}

fn in_full(condition: Option<&Condition>) -> String {
    condition.map_or_else(
        || "no condition".to_owned(),
        |c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message),
    )
}
