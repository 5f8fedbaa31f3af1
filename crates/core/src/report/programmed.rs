//! Whether a request sent now reaches a ready pod of the Model.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kthena_bridge_api::annotation;
use kthena_bridge_api::child::{ChildKind, LABEL_PICKER};
use kthena_bridge_api::condition::Reason;
use kthena_bridge_api::gateway::{Gateway, ParentReference, ParentStatus};
use kthena_bridge_api::kthena::{LABEL_ROLE, LABEL_SERVING};

use super::{Cause, Outcome, Verdict};
use crate::claims;
use crate::config::FailureMode;
use crate::observe::{Child, Cluster, Detail};
use crate::owner::{Owner, OwnerKind};
use crate::plan;
use crate::provider::{GENERIC, ISTIO, Provider};
use crate::target::Target;
use crate::topology::{listeners, provider_of};

/// How long a silence counts as "not yet".
const PATIENCE: Duration = Duration::from_secs(30);

/// A cause that stands in the way, or a note to a success.
type Check = Result<(), Verdict>;

pub(super) fn verdict(
    owner: &Owner,
    target: Option<&Target>,
    outcome: Outcome<'_>,
    cluster: &impl Cluster,
    now: Timestamp,
) -> (Verdict, Option<Duration>) {
    let child = |kind| owner.child(kind, cluster);
    let live = Live {
        target,
        outcome,
        owner,
        namespace: &owner.namespace,
        pool: child(ChildKind::InferencePool),
        picker: child(ChildKind::Deployment),
        route: child(ChildKind::HTTPRoute),
        rewrites: ChildKind::ALL
            .into_iter()
            .any(|kind| kind.rewrites_models() && child(kind).is_some()),
    };
    let found = live.check(cluster);
    let found = match found {
        Err(pending) if pending.reason == Reason::Pending => {
            let since = [&live.pool, &live.route]
                .into_iter()
                .flatten()
                .filter_map(|c| c.metadata.created.max(c.written_at))
                .max();
            let left = since.map(|since| {
                PATIENCE.saturating_sub(
                    Duration::try_from(now.duration_since(since)).unwrap_or_default(),
                )
            });
            match left {
                Some(Duration::ZERO) => Err(Verdict::new(Reason::NotReported, pending.message)),
                left => return (pending, left),
            }
        }
        found => found,
    };
    let verdict = match found {
        Ok(note) => Verdict::new(Reason::Programmed, note),
        Err(verdict) => verdict,
    };
    (verdict, None)
}

/// The live objects of one exposure.
struct Live<'a> {
    target: Option<&'a Target>,
    outcome: Outcome<'a>,
    owner: &'a Owner,
    namespace: &'a str,
    pool: Option<std::sync::Arc<Child>>,
    picker: Option<std::sync::Arc<Child>>,
    route: Option<std::sync::Arc<Child>>,
    rewrites: bool,
}

impl Live<'_> {
    /// The message of success, or the first cause in the chain.
    fn check(&self, cluster: &impl Cluster) -> Result<String, Verdict> {
        if let Outcome::Applied { failures, .. } = self.outcome
            && let Some(failure) = failures.iter().find(|f| f.cause == Cause::Other)
        {
            return Err(Verdict::new(
                Reason::ApplyFailed,
                format!(
                    "{} {}/{}: {}",
                    failure.kind, self.namespace, failure.name, failure.message
                ),
            ));
        }
        if let (None, Some(route)) = (&self.pool, &self.route) {
            return Err(Verdict::new(
                Reason::RouteNotResolved,
                format!(
                    "InferencePool {0}/{1} of HTTPRoute {0}/{1} is not there",
                    self.namespace,
                    route.name()
                ),
            ));
        }
        let (Some(pool), Some(route)) = (&self.pool, &self.route) else {
            return Err(self.not_attached());
        };
        let (
            Detail::Pool {
                selector,
                target_port,
                failure_mode,
                picker: service,
                parents: pool_parents,
            },
            Detail::Route {
                parent_refs,
                parents,
            },
        ) = (&pool.detail, &route.detail)
        else {
            return Err(self.not_attached());
        };
        self.endpoints(selector, *target_port, cluster)?;
        let attached: Vec<Attached<'_>> = parent_refs
            .iter()
            .map(|reference| Attached::find(reference, self.namespace, cluster))
            .collect();
        for gateway in &attached {
            gateway.exists()?;
        }
        let mut note = "a request sent now reaches a ready pod".to_owned();
        if attached.iter().any(|a| a.provider.asks_picker) {
            self.served_name()?;
            if let Err(down) = self.picker_is_ready(service, cluster) {
                if failure_mode != FailureMode::FailOpen.as_str() || self.rewrites {
                    return Err(down);
                }
                note = format!("{note}, but of no choice: {} (FailOpen)", down.message);
            }
        }
        self.nothing_is_missing(cluster)?;
        // The route before the pool: a Gateway that refuses the route says so of the pool, too.
        for gateway in &attached {
            gateway.accepts_route(route, parents)?;
        }
        self.route_wins(cluster)?;
        for gateway in &attached {
            gateway.accepts_pool(pool, pool_parents)?;
        }
        for gateway in &attached {
            gateway.is_programmed()?;
            if gateway.unread {
                let _ = write!(
                    note,
                    "; whether {} is programmed is not known, since the operator may not read it",
                    gateway.name()
                );
            }
        }
        Ok(note)
    }

    /// Whether everything is there without which a request fails, and of which nobody else speaks.
    fn nothing_is_missing(&self, cluster: &impl Cluster) -> Check {
        let Outcome::Applied { plan, topology, .. } = self.outcome else {
            return Ok(());
        };
        let needed = |kind: ChildKind| kind == ChildKind::DestinationRule || kind.rewrites_models();
        let not_installed = plan.missing.iter().find(|kind| needed(**kind));
        let gone =
            |kind: &&ChildKind| needed(**kind) && topology.owner.child(**kind, cluster).is_none();
        let kinds: Vec<ChildKind> = plan.objects.iter().map(|desired| desired.kind).collect();
        let (kind, why) = match (not_installed, kinds.iter().find(gone)) {
            (Some(kind), _) => (
                kind,
                "cannot be written, since the kind is not installed; see the condition Accepted",
            ),
            (None, Some(kind)) => (
                kind,
                "is not there, and requests fail without it; see the condition Accepted",
            ),
            (None, None) => return Ok(()),
        };
        let name = topology.names.of_kind(*kind);
        Err(Verdict::new(
            Reason::ApplyFailed,
            format!("{kind} {}/{name} {why}", self.namespace),
        ))
    }

    /// Why there is no route.
    fn not_attached(&self) -> Verdict {
        match self.outcome {
            Outcome::Applied { exposure, .. } if exposure.paused => Verdict::new(
                Reason::WaitingForModel,
                format!(
                    "nothing is served, and nothing is written while it is paused; remove {}",
                    self.owner.setting(annotation::PAUSED)
                ),
            ),
            Outcome::Applied { plan, failures, .. } if !plan.missing.is_empty() || !failures.is_empty() => {
                Verdict::new(Reason::WaitingForModel, "nothing is served; see the condition Accepted")
            }
            Outcome::Applied { topology, .. } if topology.activated => {
                Verdict::new(Reason::Pending, "the objects were written just now")
            }
            Outcome::Applied { .. } => self.failed().unwrap_or_else(|| {
                let message = match (self.target, self.owner.kind) {
                    (Some(Target::Server(_)) | None, _) => {
                        "the route is made when a pod is ready".to_owned()
                    }
                    (_, OwnerKind::ModelBooster) => {
                        "the route is made when Kthena says Active=True and a pod is ready; see the conditions of \
                         Kthena on this object"
                            .to_owned()
                    }
                    (Some(target), OwnerKind::ModelExposure) => format!(
                        "the route is made when Kthena says Active=True and a pod is ready; see the conditions of \
                         Kthena on {target}"
                    ),
                };
                Verdict::new(Reason::WaitingForModel, message)
            }),
            _ => Verdict::new(Reason::WaitingForModel, "nothing is served; see the condition Accepted"),
        }
    }

    /// What Kthena says of a Model that failed.
    fn failed(&self) -> Option<Verdict> {
        let message = self.target?.failure()?;
        Some(Verdict::new(
            Reason::ModelFailed,
            format!("Kthena reports: {message}; see the log of its controller-manager"),
        ))
    }

    fn served_name(&self) -> Check {
        let Outcome::Applied { topology, .. } = self.outcome else {
            return Ok(());
        };
        if !topology.served_names.is_empty() {
            return Ok(());
        }
        let missing = [LABEL_SERVING, LABEL_ROLE]
            .into_iter()
            .filter(|l| !topology.selector.contains_key(*l));
        let missing: Vec<&str> = missing.collect();
        let message = match self.target {
            Some(Target::Server(_)) => format!(
                "nobody says under which name the engine serves the model; set spec.model of ModelServer {}",
                topology.model
            ),
            _ if missing.is_empty() => {
                "the engine's command in the ModelServing has neither --served-model-name nor --model; set \
                 served-model-name in the worker's config"
                    .to_owned()
            }
            _ => format!(
                "{} does not say which ModelServing and role the pods are of; add {}",
                self.owner.setting(annotation::POD_SELECTOR),
                missing.join(" and ")
            ),
        };
        Err(Verdict::new(Reason::ServedNameUnknown, message))
    }

    /// Whether a pod of the pool is ready, and on its port.
    fn endpoints(
        &self,
        selector: &BTreeMap<String, String>,
        target_port: Option<u16>,
        cluster: &impl Cluster,
    ) -> Check {
        let all = cluster.pods(self.namespace, selector);
        let pods: Vec<_> = all.iter().filter(|pod| pod.ready).collect();
        if pods.is_empty() {
            return Err(self.failed().unwrap_or_else(|| {
                let labels: Vec<String> =
                    selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
                let labels = labels.join(",");
                let namespace = self.namespace;
                let message = match all.iter().find_map(|pod| pod.stuck.as_ref()) {
                    _ if all.is_empty() => format!(
                        "no pod in namespace {namespace} has the labels {labels}; see replicas of the Model, and {} if \
                         it is set",
                        self.owner.setting(annotation::POD_SELECTOR)
                    ),
                    Some(stuck) => format!("the pods in namespace {namespace} with the labels {labels} are not ready: {stuck}"),
                    None => format!("the pods in namespace {namespace} with the labels {labels} are not ready"),
                };
                Verdict::new(Reason::NoReadyEndpoints, message)
            }));
        }
        let Some(target) = target_port else {
            return Ok(());
        };
        if pods.iter().any(|pod| pod.may_serve(target)) {
            return Ok(());
        }
        let mut ports: Vec<u16> = pods
            .iter()
            .flat_map(|pod| pod.ports.iter().copied())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        Err(Verdict::new(
            Reason::PortNotServed,
            format!(
                "requests go to port {target}, and the ready pods serve on {}; set {}",
                ports.join(", "),
                self.owner.setting(annotation::TARGET_PORT)
            ),
        ))
    }

    /// Whether the route gets the requests that it asks for.
    fn route_wins(&self, cluster: &impl Cluster) -> Check {
        let Some(route) = self.owner.route(cluster) else {
            return Ok(());
        };
        let Some(conflict) = claims::outranked(&route, cluster) else {
            return Ok(());
        };
        Err(Verdict::new(
            Reason::RouteOutranked,
            format!(
                "HTTPRoute {}/{} gets the requests for {}: remove it, or choose another {}, {} or {}",
                conflict.holder.namespace(),
                conflict.holder.name(),
                conflict.held,
                self.owner.setting(annotation::PATH),
                self.owner.setting(annotation::HOSTNAMES),
                self.owner.setting(annotation::MATCH_MODEL)
            ),
        ))
    }

    fn picker_is_ready(&self, service: &str, cluster: &impl Cluster) -> Check {
        let names = self.owner.names();
        let picker = match &self.picker {
            Some(picker) if service == names.picker => picker,
            None if service == names.picker => {
                return Err(Verdict::new(
                    Reason::EndpointPickerNotReady,
                    format!(
                        "Deployment {}/{service} is not there; see the condition Accepted",
                        self.namespace
                    ),
                ));
            }
            // Somebody else's. Whether its Service exists shows in the pool's ResolvedRefs.
            _ if cluster.has_ready_endpoints(self.namespace, service) == Some(false) => {
                return Err(Verdict::new(
                    Reason::EndpointPickerNotReady,
                    format!(
                        "Service {}/{service} of the endpoint picker does not exist, or has no ready endpoint",
                        self.namespace
                    ),
                ));
            }
            _ => return Ok(()),
        };
        let Detail::Deployment { ready, failure } = &picker.detail else {
            return Ok(());
        };
        // Whichever generation it is of: while a new one is rolled out, the old one answers.
        if *ready > 0 {
            return Ok(());
        }
        let pods = cluster.pods(self.namespace, &plan::picker_labels(picker.name()));
        let stuck = pods.iter().find_map(|pod| pod.stuck.as_ref());
        let why = match (failure, stuck) {
            (Some(failure), _) => format!("its pod cannot be made: {failure}"),
            (None, Some(stuck)) => format!("its pod: {stuck}"),
            (None, None) => format!(
                "see the pods with the label {LABEL_PICKER}={}",
                picker.name()
            ),
        };
        Err(Verdict::new(
            Reason::EndpointPickerNotReady,
            format!(
                "Deployment {}/{} has no ready replica: {why}",
                self.namespace,
                picker.name()
            ),
        ))
    }
}

/// A parentRef of the route with the Gateway that it names.
struct Attached<'a> {
    reference: &'a ParentReference,
    namespace: String,
    gateway: Option<std::sync::Arc<Gateway>>,
    /// Whether it is there although it may not be read, as the operator's configuration says.
    unread: bool,
    provider: &'static Provider,
}

impl<'a> Attached<'a> {
    fn find(reference: &'a ParentReference, own_namespace: &str, cluster: &impl Cluster) -> Self {
        let namespace = reference.namespace_or(own_namespace).to_owned();
        let gateway = cluster.gateway(&namespace, &reference.name);
        let provider = provider_of(&namespace, &reference.name, gateway.as_deref(), cluster);
        Self {
            unread: gateway.is_none() && provider.is_some(),
            provider: provider.unwrap_or(&GENERIC),
            reference,
            namespace,
            gateway,
        }
    }

    fn name(&self) -> String {
        format!("Gateway {}/{}", self.namespace, self.reference.name)
    }

    /// Whether a report speaks of this Gateway, whatever group it writes (Istio writes its own).
    fn is(&self, parent: &ParentReference, own_namespace: &str) -> bool {
        parent.name == self.reference.name
            && parent.namespace_or(own_namespace) == self.namespace
            && parent.kind.as_deref().unwrap_or("Gateway") == "Gateway"
    }

    fn accepts_pool(&self, pool: &Child, parents: &[ParentStatus]) -> Check {
        if !self.provider.reports {
            return Ok(());
        }
        let parent = parents
            .iter()
            .find(|p| self.is(&p.parent_ref, pool.namespace()));
        self.judge(
            pool,
            parent,
            Reason::PoolNotAccepted,
            Reason::PoolNotResolved,
        )
    }

    fn accepts_route(&self, route: &Child, parents: &[ParentStatus]) -> Check {
        if !self.provider.reports {
            return Ok(());
        }
        let parent = parents.iter().find(|p| {
            self.is(&p.parent_ref, route.namespace())
                && p.parent_ref.section_name == self.reference.section_name
        });
        self.judge(
            route,
            parent,
            Reason::RouteNotAccepted,
            Reason::RouteNotResolved,
        )
    }

    /// `Accepted` and `ResolvedRefs` in what this Gateway says of an object.
    fn judge(
        &self,
        child: &Child,
        parent: Option<&ParentStatus>,
        not_accepted: Reason,
        not_resolved: Reason,
    ) -> Check {
        let object = format!("{} {}/{}", child.kind, child.namespace(), child.name());
        let generation = child.generation.unwrap_or_default();
        let said = parent.map_or(&[][..], |p| &p.conditions);
        for (wanted, reason) in [("Accepted", not_accepted), ("ResolvedRefs", not_resolved)] {
            match said.iter().find(|c| c.type_ == wanted) {
                Some(c)
                    if c.observed_generation.is_none_or(|g| g >= generation)
                        && c.status != "Unknown" =>
                {
                    if c.status != "True" {
                        let hint = if c.reason == "InvalidKind" && self.provider == &ISTIO {
                            "; start istiod with ENABLE_GATEWAY_API_INFERENCE_EXTENSION=true"
                        } else {
                            ""
                        };
                        return Err(Verdict::new(
                            reason,
                            format!(
                                "{} says of {object}: {}: {}{hint}",
                                self.name(),
                                c.reason,
                                c.message
                            ),
                        ));
                    }
                }
                _ => {
                    return Err(Verdict::new(
                        Reason::Pending,
                        format!("{} has not reported on {object}", self.name()),
                    ));
                }
            }
        }
        Ok(())
    }

    fn exists(&self) -> Check {
        if self.gateway.is_some() || self.unread {
            return Ok(());
        }
        Err(Verdict::new(
            Reason::GatewayNotProgrammed,
            format!("{} does not exist", self.name()),
        ))
    }

    fn is_programmed(&self) -> Check {
        let Some(gateway) = &self.gateway else {
            return self.exists();
        };
        let class = gateway.spec.gateway_class_name.as_str();
        if let Some(only) = self.provider.class.filter(|only| *only != class) {
            return Err(Verdict::new(
                Reason::GatewayNotProgrammed,
                format!(
                    "{} has the GatewayClass {class}, and {} serves only the class {only}",
                    self.name(),
                    self.provider.name
                ),
            ));
        }
        if !self.provider.reports {
            return Ok(());
        }
        let status = gateway.status.as_ref();
        let programmed =
            |conditions: &[Condition]| conditions.iter().find(|c| c.type_ == "Programmed").cloned();
        let named = self.reference.section_name.as_deref();
        if listeners::of(gateway, named).next().is_none() {
            return Err(Verdict::new(
                Reason::GatewayNotProgrammed,
                format!(
                    "{} has no listener {}",
                    self.name(),
                    named.unwrap_or_default()
                ),
            ));
        }
        let listeners = status.iter().flat_map(|s| &s.listeners);
        let listeners = listeners.filter(|l| named.is_none_or(|n| n == l.name));
        let said = std::iter::once(programmed(status.map_or(&[], |s| &s.conditions)))
            .chain(listeners.map(|l| programmed(&l.conditions)));
        for condition in said.flatten() {
            if condition.status != "True" {
                return Err(Verdict::new(
                    Reason::GatewayNotProgrammed,
                    format!(
                        "{} says: {}: {}",
                        self.name(),
                        condition.reason,
                        condition.message
                    ),
                ));
            }
        }
        Ok(())
    }
}
