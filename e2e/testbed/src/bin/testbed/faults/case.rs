//! A namespace with a Model, an operator of its own behind a proxy, and things that are nobody's business.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use fault_proxy::{Action, Fault, Seen};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kthena_bridge_api::child::ChildKind;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt as _};
use testbed::{Error, Namespace, Result, TestBed};

use super::identity;
use super::life::Step;
use super::operator::Operator;
use super::oracle;
use super::plan::Plan;
use super::recorded::{Settled, settled, watched};
use super::state::{State, capture};

/// The Model of every plan.
pub(crate) const MODEL: &str = "demo";
/// The Gateway that it is exposed on.
pub(crate) const GATEWAY: &str = "inference-gateway";
/// What carries our labels, and is not ours.
pub(crate) const SPOOFED: &str = "spoofed";
/// Between two looks at the requests.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a Model may take to be active.
const ACTIVE: Duration = Duration::from_mins(1);

const FOREIGN: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: foreign}
data: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: spoofed
  labels: {app.kubernetes.io/managed-by: kthena-bridge, kthena-bridge.io/model: demo}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: demo}
---
apiVersion: v1
kind: Service
metadata: {name: foreign}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: foreign}
spec:
  hostnames: [foreign.example.com]
  rules: [{backendRefs: [{name: foreign, port: 80}]}]
";

/// A namespace with a Model, an operator of its own behind a proxy, and things that are nobody's business.
pub(crate) struct Case<'a> {
    pub(crate) bed: &'a TestBed,
    /// What its operators run.
    pub(crate) binary: &'a Path,
    pub(crate) namespace: Namespace<'a>,
    pub(crate) operator: Operator,
    /// The Models, of which the first is [`MODEL`].
    pub(crate) models: Vec<String>,
    /// The resources that the operator watches when it has begun.
    pub(crate) watched: BTreeSet<String>,
    /// The versions of what is nobody's business.
    foreign: Vec<(String, String)>,
}

/// Where a step begins.
pub(crate) struct Since {
    from: usize,
    at: Instant,
}

/// How long nothing is sent when it is over, and how long that may take to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) quiet: Duration,
    pub(crate) limit: Duration,
}

impl<'a> Case<'a> {
    /// Makes the namespace and the Model, which is not annotated, and starts the operator with more `arguments`.
    pub(crate) async fn start(
        bed: &'a TestBed,
        binary: &'a Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let namespace = bed.namespace("faults").await?;
        namespace.gateway(GATEWAY).await?;
        namespace.apply(FOREIGN).await?;
        make_active(bed, &namespace, MODEL, ACTIVE).await?;
        identity::grant(&namespace).await?;
        let operator = Operator::start(bed, binary, namespace.name(), GATEWAY, arguments).await?;
        let mut case = Self {
            bed,
            binary,
            namespace,
            operator,
            models: vec![MODEL.to_owned()],
            watched: BTreeSet::new(),
            foreign: Vec::new(),
        };
        bed.wait_for("the operator watches what there is", ACTIVE, async || {
            let seen = case.operator.proxy.seen(0);
            let last = seen.last().map(|seen| seen.at);
            case.watched = watched(&seen);
            let settled = last.is_some_and(|at| at.elapsed() > Duration::from_secs(1));
            let enough =
                case.watched.contains("modelboosters") && case.watched.contains("httproutes");
            if settled && enough {
                Ok(())
            } else {
                Err(format!("{:?}", case.watched))
            }
        })
        .await?;
        case.foreign = case.versions().await?;
        Ok(case)
    }

    /// Makes more Models, which are not annotated.
    pub(crate) async fn add(&mut self, models: &[&str]) -> Result<()> {
        for model in models {
            if !self.models.iter().any(|known| known == model) {
                make_active(self.bed, &self.namespace, model, ACTIVE).await?;
                self.models.push((*model).to_owned());
            }
        }
        Ok(())
    }

    /// Kinds, names and versions of what is nobody's business.
    async fn versions(&self) -> Result<Vec<(String, String)>> {
        let (client, namespace) = (self.bed.client()?, self.namespace.name());
        let failed = |e: kube::Error| Error::Other(format!("looking at what is foreign: {e}"));
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let mut versions = Vec::new();
        for name in ["foreign", SPOOFED] {
            let map = maps.get(name).await.map_err(failed)?;
            versions.push((
                format!("ConfigMap {name}"),
                map.resource_version().unwrap_or_default(),
            ));
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let account = accounts.get(MODEL).await.map_err(failed)?;
        versions.push((
            format!("ServiceAccount {MODEL}"),
            account.resource_version().unwrap_or_default(),
        ));
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let service = services.get("foreign").await.map_err(failed)?;
        versions.push((
            "Service foreign".to_owned(),
            service.resource_version().unwrap_or_default(),
        ));
        let routes: Api<DynamicObject> =
            Api::namespaced_with(client, namespace, &ChildKind::HTTPRoute.api_resource());
        let route = routes.get("foreign").await.map_err(failed)?;
        versions.push((
            "HTTPRoute foreign".to_owned(),
            route.resource_version().unwrap_or_default(),
        ));
        Ok(versions)
    }

    /// The version of everything, now.
    async fn now(&self) -> Result<String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.bed.client()?, self.namespace.name());
        let listed = maps.list(&ListParams::default()).await;
        let listed =
            listed.map_err(|e| Error::Other(format!("asking for the version of now: {e}")))?;
        Ok(listed.metadata.resource_version.unwrap_or_default())
    }

    /// What became of what is nobody's business; empty when nothing did.
    pub(crate) async fn meddled(&self) -> Result<String> {
        Ok(oracle::changed(&self.foreign, &self.versions().await?))
    }

    /// Begins with a plan; what follows is counted from here.
    pub(crate) fn begin(&self, faults: Vec<Fault>) -> Since {
        let since = Since {
            from: self.operator.proxy.count(),
            at: Instant::now(),
        };
        self.operator.proxy.begin(faults);
        since
    }

    /// Takes a step with a plan, and waits until nothing is written any more and everything is as `wanted`;
    /// without that, until the step has had its effect.
    pub(crate) async fn step(
        &self,
        step: Step,
        plan: Option<&Plan>,
        wanted: Option<&State>,
        patience: Patience,
    ) -> Result<Settled, String> {
        let mut faults = plan.map(|plan| plan.faults.clone()).unwrap_or_default();
        let past = faults.iter_mut().filter_map(|fault| match &mut fault.what {
            Action::AsOf(version) => Some(version),
            _ => None,
        });
        for version in past {
            *version = self.now().await.map_err(|e| e.to_string())?;
        }
        let since = self.begin(faults);
        step.take(self, MODEL).await.map_err(|e| e.to_string())?;
        if let Some(silence) = plan.and_then(|plan| plan.silence) {
            tokio::time::sleep(silence).await;
            self.operator.proxy.thaw();
        }
        let fits = |state: &State, seen: &[Seen]| match wanted {
            Some(wanted) if state == wanted => Ok(()),
            Some(wanted) => Err(state.differences(wanted)),
            None if step.serves() && !seen.iter().any(Seen::wrote) => {
                Err("nothing was written".to_owned())
            }
            None => state.is(MODEL, step.serves()),
        };
        let (state, seen) = self.rest(&since, patience, fits).await?;
        let mut settled = settled(state, &seen, since.at);
        settled.fired += self.operator.proxy.tampered();
        Ok(settled)
    }

    /// The requests since then.
    pub(crate) fn seen(&self, since: &Since) -> Vec<Seen> {
        self.operator.proxy.seen(since.from)
    }

    /// How often an object was written since then.
    pub(crate) fn written(&self, since: &Since, kind: ChildKind, name: &str) -> u32 {
        let resource = kind.api_resource().plural;
        let seen = self.seen(since);
        let wrote = seen.iter().filter(|seen| {
            seen.wrote() && seen.request.resource == resource && seen.request.name == name
        });
        u32::try_from(wrote.count()).unwrap_or(u32::MAX)
    }

    /// Waits until everything is as `wanted`, whatever is sent meanwhile.
    pub(crate) async fn reach(&self, wanted: &State, limit: Duration) -> Result<(), String> {
        let reached = self.bed.wait_for("all is as wanted", limit, async || {
            let state = capture(self.bed, &self.namespace, &self.models).await?;
            let differences = state.differences(wanted);
            differences.is_empty().then_some(()).ok_or(differences)
        });
        reached.await.map_err(|e| e.to_string())
    }

    /// Fails while the operator does not watch all that it is to, by what it asked for.
    pub(crate) fn is_watched(&self, seen: &[Seen]) -> Result<(), String> {
        let watched = watched(seen);
        let missing: Vec<_> = self.watched.difference(&watched).collect();
        let all = missing.is_empty();
        all.then_some(())
            .ok_or_else(|| format!("it does not watch {missing:?}"))
    }

    /// The same as [`Self::rest`], and what came of it.
    pub(crate) async fn settle(
        &self,
        since: &Since,
        patience: Patience,
        fits: impl Fn(&State) -> Result<(), String>,
    ) -> Result<Settled, String> {
        let (state, seen) = self.rest(since, patience, |state, _| fits(state)).await?;
        Ok(Settled {
            // What others do is all that it is about.
            fired: 1,
            ..settled(state, &seen, since.at)
        })
    }

    /// Waits until nothing is sent any more and everything fits.
    pub(crate) async fn rest(
        &self,
        since: &Since,
        patience: Patience,
        fits: impl Fn(&State, &[Seen]) -> Result<(), String>,
    ) -> Result<(State, Vec<Seen>), String> {
        let proxy = &self.operator.proxy;
        let began = Instant::now();
        let mut last = String::from(
            "nothing was looked at, since requests went on, or a start did not come to its end",
        );
        while began.elapsed() < patience.limit {
            self.bed.check().map_err(|e| e.to_string())?;
            if let Some(ended) = self.operator.fate().ended {
                return Err(format!("the operator ended by itself: {ended}"));
            }
            let seen = proxy.seen(since.from);
            let strayed = oracle::strayed(&seen, &self.models);
            if !strayed.is_empty() {
                return Err(strayed);
            }
            if self.rests(&seen, since.at, patience.quiet) {
                // An API server that has just been started does not tell everything yet.
                let state = capture(self.bed, &self.namespace, &self.models).await;
                let fits = state.and_then(|state| {
                    state.keeps_its_word()?;
                    fits(&state, &seen).map(|()| state)
                });
                match fits {
                    Ok(state) if proxy.count() == since.from + seen.len() => {
                        return Ok((state, seen));
                    }
                    Ok(_) => {}
                    Err(problem) => last = problem,
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(format!(
            "not as it should be after {:?}: {last}",
            patience.limit
        ))
    }

    /// What the operator writes or lists in a time in which nothing happens, beside renewing its Lease; empty when
    /// nothing.
    pub(crate) async fn restless(&self, time: Duration) -> String {
        let from = self.operator.proxy.count();
        tokio::time::sleep(time).await;
        oracle::asked(&self.operator.proxy.seen(from))
    }

    /// Whether the operator sent nothing for a while; when it was started since `began`, it also has to have come
    /// as far as the first one did.
    fn rests(&self, seen: &[Seen], began: Instant, quiet: Duration) -> bool {
        let sent = seen.last().is_some_and(|last| last.at.elapsed() < quiet);
        if sent || self.operator.proxy.is_crashed() {
            return false;
        }
        let started = self.operator.fate().started.last().copied();
        let Some(started) = started.filter(|started| *started > began) else {
            return true;
        };
        let since: Vec<Seen> = seen
            .iter()
            .filter(|seen| seen.at > started)
            .cloned()
            .collect();
        self.watched.is_subset(&watched(&since))
    }
}

/// Makes a Model, which is not annotated, and waits until Kthena says that it is active.
pub(crate) async fn make_active(
    bed: &TestBed,
    namespace: &Namespace<'_>,
    name: &str,
    limit: Duration,
) -> Result<()> {
    let model = namespace.model(name).await?;
    bed.wait_for(format!("the Model {name} is active"), limit, async || {
        let conditions = model.get().await?.status.unwrap_or_default().conditions;
        let active = conditions
            .iter()
            .any(|c| c.type_ == "Active" && c.status == "True");
        if active {
            Ok(())
        } else {
            Err(format!("{conditions:?}"))
        }
    })
    .await
}
