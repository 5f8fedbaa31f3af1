//! Everything that is measured at one number of Models.

use std::cell::Cell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use kthena_bridge_api::DOMAIN;
use kthena_bridge_api::child::ChildKind;
use kube::api::{
    DeleteParams, DynamicObject, ListParams, Patch, PatchParams, WatchEvent, WatchParams,
};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use testbed::audit::Tail;
use testbed::{Error, Namespace, Result, TestBed};

use super::cluster::{self, Model, Recorded};
use super::figure::{Bar, Figure};
use super::floor::{self, Bodies};
use super::measure::{Counted, number, quantile};
use super::operator::Operator;
use super::stand_in::{KINDS, StandIn};
use super::{Arguments, By};

/// The best peer's Models per second with 100 and with 1,000; with more nobody's was measured.
const PEERS: [(usize, f64); 2] = [(100, 16.6), (1000, 12.8)];
/// How often the best peer's rate it has to be.
const FACTOR: f64 = 2.0;
/// How long nothing is written before it is quiet.
const QUIET: Duration = Duration::from_secs(5);
/// How long one Model, in a cluster that does nothing else, may take.
const LIMIT: Duration = Duration::from_mins(1);
/// The kinds of which one is deleted to see it come back.
const DELETED: [ChildKind; 8] = [
    ChildKind::HTTPRoute,
    ChildKind::Service,
    ChildKind::ConfigMap,
    ChildKind::InferencePool,
    ChildKind::Deployment,
    ChildKind::RoleBinding,
    ChildKind::ServiceAccount,
    ChildKind::DestinationRule,
];

/// What came of it.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) figures: Vec<Figure>,
    /// What the figures were made from.
    pub(crate) details: Value,
}

/// A cluster with Models, before the operator comes.
struct Scene<'a> {
    bed: &'a TestBed,
    arguments: &'a Arguments,
    dir: PathBuf,
    client: Client,
    recorded: Recorded,
    models: Vec<Model>,
    /// Those that are exposed during the cold start, and those that are when all is quiet.
    spares: Vec<Model>,
    audit: Tail,
    began: Instant,
    _namespaces: Vec<Namespace<'a>>,
}

impl<'a> Scene<'a> {
    async fn set(
        bed: &'a TestBed,
        arguments: &'a Arguments,
        count: usize,
        spares: usize,
    ) -> Result<Self> {
        let dir = bed.dir().join("scale");
        cluster::install(bed, &dir).await?;
        let recorded = cluster::record(bed).await?;
        let client = bed.client()?;
        let namespaces = cluster::namespaces(bed, "scale", arguments.namespaces).await?;
        let began = Instant::now();
        let make = |prefix, count, exposed| {
            let by = arguments.by;
            cluster::models(
                &client,
                &recorded,
                &namespaces,
                prefix,
                count,
                (exposed, by),
            )
        };
        let models = make("model", count, true).await?;
        let spares = make("spare", spares, false).await?;
        eprintln!(
            "{count} exposed Models and {} others after {:.0?}",
            spares.len(),
            began.elapsed()
        );
        Ok(Self {
            audit: bed.audit_tail(),
            bed,
            arguments,
            dir,
            client,
            recorded,
            models,
            spares,
            began,
            _namespaces: namespaces,
        })
    }

    fn say(&self, what: &str) {
        eprintln!("[{:6.1} s] {what}", self.began.elapsed().as_secs_f64());
    }

    fn operator(&self) -> Result<Operator> {
        Operator::start(&self.arguments.operator, &self.dir)
    }

    /// How long something with all Models may take.
    fn limit(&self) -> Duration {
        LIMIT + self.arguments.per_model * u32::try_from(self.models.len()).unwrap_or(u32::MAX)
    }

    fn keys(&self) -> HashSet<String> {
        self.models.iter().map(Model::key).collect()
    }

    async fn annotate(&self, model: &Model, key: &str, value: &str) -> Result<()> {
        let annotations = json!({"metadata": {"annotations": {format!("{DOMAIN}/{key}"): value}}});
        self.patch(model, "ModelBooster", &annotations).await
    }

    async fn patch(&self, model: &Model, kind: &str, patch: &Value) -> Result<()> {
        let group = match kind {
            "ModelExposure" => DOMAIN,
            _ => "workload.serving.volcano.sh",
        };
        let api = cluster::api(&self.client, &model.namespace, group, kind);
        let patch = Patch::Merge(patch);
        let params = PatchParams::default();
        let patched = api.patch(&model.name, &params, &patch).await;
        patched
            .map(drop)
            .map_err(|e| Error::Other(format!("changing {kind} {}: {e}", model.key())))
    }

    /// Has a Model exposed that was made already.
    async fn have_exposed(&self, model: &Model) -> Result<()> {
        match self.arguments.by {
            By::Annotations => self.annotate(model, "expose", "true").await,
            By::Objects => cluster::exposure(&self.client, &model.namespace, &model.name).await,
        }
    }

    /// Changes how long a request to a Model may take.
    async fn edit(&self, model: &Model, timeout: &str) -> Result<()> {
        match self.arguments.by {
            By::Annotations => self.annotate(model, "request-timeout", timeout).await,
            By::Objects => {
                let patch = json!({"spec": {"requestTimeout": timeout}});
                self.patch(model, "ModelExposure", &patch).await
            }
        }
    }

    /// Waits until nothing was written for a while, and adds up what was.
    async fn until_quiet(&mut self, counted: &mut Counted, quiet: Duration) -> Result<()> {
        let end = Instant::now() + self.limit();
        let mut last = Instant::now();
        while last.elapsed() < quiet {
            let news = Counted::next(&mut self.audit)?;
            if news.writes > 0 {
                last = Instant::now();
            }
            if Instant::now() > end {
                let limit = self.limit();
                let what = &news.by_kind;
                return Err(Error::Other(format!(
                    "the operator is not quiet within {limit:?}; it sends {what:?}"
                )));
            }
            counted.add_all(news);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Exposes a Model, and tells how long it took until its route was seen.
    async fn expose(&self, model: &Model, stand_in: &StandIn, limit: Duration) -> Result<Duration> {
        let began = Instant::now();
        self.have_exposed(model).await?;
        let route = (ChildKind::HTTPRoute, model.key());
        let what = format!("{} has a route", model.key());
        let seen = stand_in.until(&what, limit, |seen| {
            seen.first
                .get(&route)
                .copied()
                .ok_or_else(|| "none".to_owned())
        });
        Ok(seen.await?.saturating_duration_since(began))
    }
}

/// Measures how fast objects come to be beside a deployment controller that makes pods.
pub(crate) async fn objects(arguments: &Arguments, count: usize) -> Result<Measured> {
    let bed = cluster::start(true)?;
    let scene = Scene::set(&bed, arguments, count, 0).await?;
    let stand_in = StandIn::start(&scene.client, false);
    let operator = scene.operator()?;
    let keys = scene.keys();
    let last = stand_in.until("all objects exist", scene.limit(), |seen| {
        let counts = KINDS.map(|kind| (kind, seen.objects(kind, &keys)));
        if counts.iter().all(|(_, (n, _))| *n == keys.len()) {
            Ok(counts.iter().filter_map(|(_, (_, last))| *last).max())
        } else {
            Err(format!("{counts:?}"))
        }
    });
    let last = last
        .await
        .map_err(|e| Error::Other(format!("{e}\n{}", operator.log())))?;
    let took = last.map(|last| last.saturating_duration_since(operator.started));
    let rate = took.map(|took| number(count) / took.as_secs_f64());
    let mut figure = Figure::new(
        "Models per second until all objects exist, deployment controller on",
        count,
        rate,
        "/s",
    );
    if let Some((_, peer)) = PEERS.iter().find(|(models, _)| *models == count) {
        figure = figure.bar(Bar::AtLeast(FACTOR * peer));
    }
    operator.stop().await?;
    Ok(Measured {
        figures: vec![figure],
        details: json!({"seconds": took.map(|t| t.as_secs_f64())}),
    })
}

/// Measures everything else.
pub(crate) async fn all(arguments: &Arguments, count: usize) -> Result<Measured> {
    let bed = cluster::start(false)?;
    // As many Models may be exposed during the cold start.
    let loaded = (count / 20).clamp(10, 500);
    let mut scene = Scene::set(&bed, arguments, count, loaded + arguments.idle_probes).await?;
    let mut measured = Measured {
        details: json!({}),
        ..Measured::default()
    };
    let stand_in = StandIn::start(&scene.client, true);
    let operator = scene.operator()?;
    let cold = cold_start(&mut scene, &stand_in, &operator, loaded, &mut measured).await;
    let cold = cold.map_err(|e| Error::Other(format!("{e}\n{}", operator.log())))?;
    rest(&mut scene, &operator, &mut measured).await?;
    idle_latency(&scene, &stand_in, loaded, &mut measured).await?;
    edits(&mut scene, &mut measured).await?;
    repairs(&scene, &mut measured).await?;
    measured.details["metrics"] = operator.metrics(&bed).await?.into();
    operator.stop().await?;
    if arguments.floor_models > 0 {
        raw_floor(&mut scene, &stand_in, &cold, &mut measured).await?;
    }
    restart(&mut scene, &mut measured).await?;
    Ok(measured)
}

/// What the cold start was.
struct Cold {
    took: Duration,
    /// Of the operator and of the stand-in.
    writes: usize,
    exposed: usize,
    counted: Counted,
}

/// The operator comes to Models that are all exposed already.
async fn cold_start(
    scene: &mut Scene<'_>,
    stand_in: &StandIn,
    operator: &Operator,
    probes: usize,
    measured: &mut Measured,
) -> Result<Cold> {
    let count = scene.models.len();
    let (keys, limit) = (scene.keys(), scene.limit());
    let done = Cell::new(false);
    let programmed = async {
        let last = stand_in.until("all are Programmed", limit, |seen| {
            let (served, last) = seen.served(&keys);
            let routes = seen.objects(ChildKind::HTTPRoute, &keys).0;
            let state = || format!("{served} of {count} Programmed, {routes} with a route");
            last.filter(|_| served == count).ok_or_else(state)
        });
        let last = last.await;
        done.set(true);
        last
    };
    let probing = async {
        let mut took = Vec::new();
        operator.until_ready(scene.bed, limit).await?;
        for model in scene.spares.iter().take(probes) {
            tokio::time::sleep(scene.arguments.probe_every).await;
            if done.get() {
                break;
            }
            took.push(scene.expose(model, stand_in, limit).await?);
        }
        Ok::<_, Error>(took)
    };
    let watching = async {
        let mut most: f64 = 0.0;
        while !done.get() {
            most = most.max(operator.process.resident()?);
            let (served, _) = stand_in.seen().served(&keys);
            scene.say(&format!("{served} of {count} Programmed, {most:.0} MiB"));
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        Ok::<_, Error>(())
    };
    let (last, took, watched) = futures::join!(programmed, probing, watching);
    watched?;
    let (last, took_each) = (last?, took?);
    let took = last.saturating_duration_since(operator.started);
    scene.say(&format!("all are Programmed after {took:.1?}"));
    let mut counted = Counted::default();
    scene.until_quiet(&mut counted, QUIET).await?;
    let exposed = count + took_each.len();
    let per_model = |n: usize| number(n) / number(exposed);
    let objects = per_model(counted.objects);
    let cpu = operator.process.cpu()?;
    measured.details["cold_start"] = json!({
        "exposed": exposed, "probes_ms": took_each.iter().map(Duration::as_millis).collect::<Vec<_>>(), "seconds": took.as_secs_f64(),
        "objects": counted.objects, "statuses": counted.statuses, "events": counted.events,
        "failed": counted.failed, "requests": counted.by_kind, "written_by_stand_in": stand_in.written(),
        "cpu_seconds": cpu.as_secs_f64(), "peak_mib": operator.process.peak()?,
    });
    measured.figures.extend([
        Figure::new(
            "time until all are Programmed",
            count,
            took.as_secs_f64(),
            "s",
        ),
        Figure::new("objects per Model", count, objects, ""),
        Figure::new(
            "requests per Model until quiet",
            count,
            per_model(counted.all),
            "",
        )
        .bar(Bar::AtMost(
            1.2 * objects + 2.0 * scene.arguments.by.told_on(),
        )),
        Figure::new(
            "status writes per Model until quiet",
            count,
            per_model(counted.statuses),
            "",
        ),
        Figure::new(
            "annotation to HTTPRoute, in the cold start, p50",
            count,
            quantile(&took_each, 50),
            "ms",
        )
        .bar(Bar::AtMost(150.0)),
        Figure::new(
            "annotation to HTTPRoute, in the cold start, p99",
            count,
            quantile(&took_each, 99),
            "ms",
        )
        .bar(Bar::AtMost(500.0)),
    ]);
    Ok(Cold {
        took,
        writes: counted.writes + stand_in.written(),
        exposed,
        counted,
    })
}

/// Nothing happens.
async fn rest(scene: &mut Scene<'_>, operator: &Operator, measured: &mut Measured) -> Result<()> {
    let count = scene.models.len();
    scene.say("resting");
    let (cpu, began) = (operator.process.cpu()?, Instant::now());
    let mut most: f64 = 0.0;
    while began.elapsed() < scene.arguments.quiet {
        most = most.max(operator.process.resident()?);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let used = operator.process.cpu()?.saturating_sub(cpu).as_secs_f64();
    let percent = 100.0 * used / began.elapsed().as_secs_f64();
    let counted = Counted::next(&mut scene.audit)?;
    measured.details["rest"] =
        json!({"seconds": began.elapsed().as_secs_f64(), "requests": counted.by_kind});
    let memory = by_size(count, 40.0, 150.0);
    measured.figures.extend([
        Figure::new(
            "writes while nothing happens, but for the Lease",
            count,
            number(counted.writes),
            "",
        )
        .bar(Bar::AtMost(0.0)),
        with(
            Figure::new("resident memory, steady", count, most, "MiB"),
            memory,
        ),
        Figure::new("idle CPU", count, percent, "% of a core").bar(Bar::AtMost(0.5)),
    ]);
    Ok(())
}

/// A bar that is given for 1,000 and for 10,000 Models; for less than the first there is the first, and
/// between them what lies between.
fn by_size(count: usize, few: f64, many: f64) -> Option<Bar> {
    let share = ((number(count) - 1_000.0) / 9_000.0).clamp(0.0, 1.0);
    (count <= 10_000).then_some(Bar::AtMost(few + share * (many - few)))
}

fn with(figure: Figure, bar: Option<Bar>) -> Figure {
    match bar {
        Some(bar) => figure.bar(bar),
        None => figure,
    }
}

/// From the annotation to the route, one Model after the other.
async fn idle_latency(
    scene: &Scene<'_>,
    stand_in: &StandIn,
    used: usize,
    measured: &mut Measured,
) -> Result<()> {
    let count = scene.models.len();
    scene.say("exposing one by one");
    let mut took = Vec::new();
    for model in scene.spares.iter().skip(used) {
        took.push(scene.expose(model, stand_in, LIMIT).await?);
        let one = HashSet::from([model.key()]);
        let what = format!("{} is Programmed", model.key());
        let served = stand_in.until(&what, LIMIT, |seen| {
            seen.served(&one)
                .1
                .ok_or_else(|| "no such condition".to_owned())
        });
        served.await?;
    }
    measured.figures.extend([
        Figure::new(
            "annotation to HTTPRoute, idle, p50",
            count,
            quantile(&took, 50),
            "ms",
        )
        .bar(Bar::AtMost(25.0)),
        Figure::new(
            "annotation to HTTPRoute, idle, p99",
            count,
            quantile(&took, 99),
            "ms",
        )
        .bar(Bar::AtMost(100.0)),
    ]);
    Ok(())
}

/// An annotation is edited that changes one object, the HTTPRoute: once and then again.
async fn edits(scene: &mut Scene<'_>, measured: &mut Measured) -> Result<()> {
    let count = scene.models.len();
    scene.say("editing annotations");
    let quiet = Duration::from_millis(1500);
    scene.until_quiet(&mut Counted::default(), quiet).await?;
    let edited: Vec<Model> = scene
        .models
        .iter()
        .take(scene.arguments.edits)
        .cloned()
        .collect();
    for (name, timeout) in [("the first time", "301s"), ("later", "302s")] {
        let mut counted = Counted::default();
        for model in &edited {
            scene.edit(model, timeout).await?;
            scene.until_quiet(&mut counted, quiet).await?;
        }
        measured.details[format!("edited {name}")] = json!(counted.by_kind);
        let each = number(counted.writes) / number(edited.len());
        let name = format!("requests for an edited annotation, {name}");
        // A ModelExposure counts its edits up, and its status says which of them it is about.
        let most = 1.0 + scene.arguments.by.told_on();
        measured
            .figures
            .push(Figure::new(&name, count, each, "").bar(Bar::AtMost(most)));
    }
    Ok(())
}

/// Objects are deleted, one after the other, each of another Model and another kind.
async fn repairs(scene: &Scene<'_>, measured: &mut Measured) -> Result<()> {
    let count = scene.models.len();
    scene.say("deleting objects");
    let mut took = Vec::new();
    let models = scene.models.iter().rev().take(scene.arguments.repairs);
    for (model, kind) in models.zip(DELETED.iter().cycle()) {
        took.push((*kind, repair(scene, model, *kind).await?));
    }
    let slowest = took.iter().max_by_key(|(_, took)| *took);
    measured.details["slowest_repair"] =
        json!(slowest.map(|(kind, took)| format!("{kind} {took:?}")));
    let took: Vec<Duration> = took.into_iter().map(|(_, took)| took).collect();
    measured.figures.push(
        Figure::new(
            "repair of a deleted object, p99",
            count,
            quantile(&took, 99),
            "ms",
        )
        .bar(Bar::AtMost(250.0)),
    );
    Ok(())
}

async fn repair(scene: &Scene<'_>, model: &Model, kind: ChildKind) -> Result<Duration> {
    let failed = |e: kube::Error| Error::Other(format!("{kind} of {}: {e}", model.key()));
    let api: Api<DynamicObject> =
        Api::namespaced_with(scene.client.clone(), &model.namespace, &kind.api_resource());
    let name = if kind.is_pickers() {
        format!("{}-epp", model.name)
    } else {
        model.name.clone()
    };
    let this = format!("metadata.name={name}");
    let listed = api.list(&ListParams::default().fields(&this)).await;
    let listed = listed.map_err(failed)?;
    // The object's own may be of long ago, and no longer to be watched from.
    let version = listed.metadata.resource_version.unwrap_or_default();
    let old = listed.items.into_iter().next();
    let old = old.ok_or_else(|| Error::Other(format!("there is no {kind} {name}")))?;
    let params = WatchParams::default().fields(&this);
    let mut events = api.watch(&params, &version).await.map_err(failed)?.boxed();
    let again = async {
        let mut gone = None;
        while let Some(event) = events.try_next().await.map_err(failed)? {
            match event {
                WatchEvent::Deleted(_) => gone = Some(Instant::now()),
                WatchEvent::Added(new) if new.uid() != old.uid() => {
                    return Ok(gone.map(|gone| gone.elapsed()).unwrap_or_default());
                }
                _ => {}
            }
        }
        Err(Error::Other(format!("the watch of {kind} {name} ended")))
    };
    let params = DeleteParams::background();
    let (deleted, again) = futures::join!(
        api.delete(&name, &params),
        tokio::time::timeout(LIMIT, again)
    );
    deleted.map_err(failed)?;
    again.map_err(|_| {
        Error::Other(format!(
            "{kind} {} is not back after {LIMIT:?}",
            model.key()
        ))
    })?
}

/// The same writes by a client that does nothing else.
async fn raw_floor(
    scene: &mut Scene<'_>,
    stand_in: &StandIn,
    cold: &Cold,
    measured: &mut Measured,
) -> Result<()> {
    let count = scene.models.len();
    scene.say("measuring the raw floor");
    let each = |n: usize| (n + cold.exposed / 2) / cold.exposed;
    let Some(model) = scene.models.first() else {
        return Ok(());
    };
    let bodies = Bodies::read(
        &scene.client,
        model,
        each(cold.counted.statuses),
        each(cold.counted.events),
    );
    let bodies = Arc::new(bodies.await?);
    stand_in.write(false);
    let watches = floor::watches(&cold.counted.watches);
    let drained = floor::drain(&scene.client, &watches).await?;
    let rates = floor::rates(
        scene.bed,
        &scene.recorded,
        &bodies,
        scene.arguments.floor_models,
        &scene.arguments.concurrency,
    );
    let rates = rates.await?;
    drop(drained);
    stand_in.write(true);
    let best = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let rate = number(cold.writes) / cold.took.as_secs_f64();
    measured.details["floor"] = json!({"writes_per_second": rates, "writes_per_model": bodies.writes(), "watches": watches.len()});
    measured.figures.extend([
        Figure::new(
            "raw floor, at the best concurrency",
            count,
            best,
            "writes/s",
        ),
        Figure::new(
            "writes until all are Programmed, the stand-in's too",
            count,
            rate,
            "writes/s",
        ),
        Figure::new("of the raw floor", count, 100.0 * rate / best, "%").bar(Bar::AtLeast(80.0)),
    ]);
    Ok(())
}

/// The operator is started again where everything is as it should be.
async fn restart(scene: &mut Scene<'_>, measured: &mut Measured) -> Result<()> {
    let count = scene.models.len();
    scene.say("starting the operator again");
    let _ = Counted::next(&mut scene.audit)?;
    let operator = scene.operator()?;
    let ready = operator.until_ready(scene.bed, scene.limit()).await?;
    let peak = operator.process.peak()?;
    // It looks at every Model then.
    tokio::time::sleep(scene.arguments.after_restart).await;
    let counted = Counted::next(&mut scene.audit)?;
    let lists = counted.lists.values().copied().max().unwrap_or_default();
    measured.details["restart"] = json!({
        "requests": counted.by_kind, "lists": counted.lists, "cpu_seconds": operator.process.cpu()?.as_secs_f64(),
        "peak_mib_after": operator.process.peak()?, "mib_after": operator.process.resident()?,
    });
    measured.figures.extend([
        Figure::new("restart until ready", count, ready.as_secs_f64(), "s").bar(Bar::AtMost(15.0)),
        Figure::new(
            "writes after a restart, but for the Lease",
            count,
            number(counted.writes),
            "",
        )
        .bar(Bar::AtMost(0.0)),
        Figure::new(
            "lists of a kind at a restart, at most",
            count,
            number(lists),
            "",
        )
        .bar(Bar::AtMost(1.0)),
        with(
            Figure::new("resident memory, peak of the lists", count, peak, "MiB"),
            by_size(count, 60.0, 220.0),
        ),
    ]);
    operator.stop().await
}

/// Whether there is a binary to measure.
pub(crate) fn check(operator: &Path) -> Result<()> {
    if operator.exists() {
        return Ok(());
    }
    Err(Error::Other(format!("{} is not there", operator.display())))
}
