//! `kthena-bridge migrate`: hands a Model over from what was made by hand, without an outage.
//!
//! Two routes with the same host, path and headers serve the same requests: Gateway API lets the older one
//! win. So the operator's route is made under a path of its own first, with its pool and its endpoint
//! picker, and is given the requests while the hand-made route still has them. Whichever wins then, each
//! request is served; and when the hand-made route moves away, there is nothing to wait for. It is deleted
//! later, when nothing is under way through its pool.
//!
//! The operator writes no route whose requests another one has (RouteConflict). It keeps what its own
//! route has already, so that the route is given the requests while that refusal holds the operator back.
//!
//! Objects whose names the operator needs are set aside as copies before (`aside`).

mod aside;
mod asked;
mod by_hand;
mod hand_over;
mod object;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kthena_bridge_api::annotation as key;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::topology::NotAccepted;
use kthena_bridge_core::{Config, Exposure, Topology, plan as planned};
use kube::Api;

use crate::cluster::{self, Access, Cluster};
use crate::observe::{self, Looked, Seen, cause, observe};
use crate::{config, output};
use by_hand::{ByHand, Lists};
use hand_over::HandOver;
use object::{Keeper, Object};

/// Arguments of `migrate`.
#[derive(Args)]
#[command(after_long_help = "\
Without --yes, nothing is written. Exit codes:
  0  handed over, or it can be, or there is nothing to hand over
  1  it cannot be handed over as it is, or something failed: what served goes on serving
  2  the arguments or the cluster's access are wrong")]
pub(crate) struct Arguments {
    /// The Model.
    model: String,
    /// Hand over. Without it, what would be done is printed.
    #[arg(long)]
    yes: bool,
    /// Print what would be done, and write nothing: the default.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// The hand-made InferencePool, where there are several for the Model.
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Where the hand-made objects are kept before anything is changed; else NAMESPACE-MODEL-by-hand.yaml in
    /// the current folder. The file must not exist.
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
    /// Leave the hand-made objects, which serve nothing any more; only the route is deleted.
    #[arg(long)]
    keep: bool,
    /// How long two routes serve side by side, so that every data plane has both.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    settle: u16,
    /// How long requests may still be under way through the hand-made endpoint picker.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u16,
    /// How long to wait for endpoint pickers and Gateways at each step.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u16,
    /// The operator's configuration file; else its ConfigMap in the cluster is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The Model's namespace; else the context's.
    #[arg(short, long, value_name = "NAME", help_heading = "Cluster")]
    namespace: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// Why it is not handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Observe(#[from] observe::Error),
    #[error(transparent)]
    Output(#[from] output::Error),
    #[error("{0} cannot be read: {1}")]
    Read(String, String),
    #[error("there is no ModelBooster {0}/{1}; see kubectl get modelboosters -A")]
    NoModel(String, String),
    #[error(
        "InferencePools {0} all select pods of the Model; name the one that is to be replaced with --pool"
    )]
    SeveralPools(String),
    #[error(
        "no HTTPRoute leads to InferencePool {0}, so that there are no requests to hand over: delete what was made \
         by hand, and expose the Model with kthena-bridge annotate"
    )]
    NoRoute(String),
    #[error(
        "HTTPRoutes {0} all lead to InferencePool {1}, and a Model has one: put what they match into one before"
    )]
    SeveralRoutes(String, String),
    #[error(
        "a Model's annotations cannot ask for what is served now: {0}; change it before, or delete it and expose \
         the Model with kthena-bridge annotate, with an outage"
    )]
    NotTheSame(String),
    #[error(
        "the Model's own annotations ask for {0}, and the hand-made HTTPRoute serves {1}; take the annotations off \
         with kthena-bridge annotate --unexpose --reset all"
    )]
    Elsewhere(String, String),
    #[error("the Model is not accepted, {reason}: {0}", reason = .0.reason)]
    Refused(NotAccepted),
    #[error("ModelBooster {0}/{1} would not be served: {2}")]
    NotWatched(String, String, String),
    #[error(
        "the Model is not active with a ready pod, so that the operator makes no route for it yet; wait for \
         kubectl -n {0} wait modelbooster/{1} --for=condition=Active"
    )]
    NotActive(String, String),
    #[error(
        "NameConflict: the operator needs the name of {0}, which is no part of what would be replaced; delete it, \
         or give it another name: kubectl -n {1} get {2} -o yaml"
    )]
    NameTaken(String, String, String),
    #[error("{0}")]
    NoCopy(String),
    #[error("{0} may not be seen whole: {1}")]
    Partly(&'static str, &'static str),
    #[error("{0}: {1}; name another file with --backup")]
    Backup(String, std::io::Error),
    #[error("{0}: {1}")]
    Write(String, String),
    #[error("{what}: not after {} s; last seen: {seen}", .after.as_secs())]
    TimedOut {
        what: String,
        after: Duration,
        seen: String,
    },
    #[error("{0}\nThe Model is as it was before; what was made by hand serves it.")]
    TakenBack(Box<Self>),
    #[error("{0}\nIt could not be taken back: {1}. What was made by hand serves the Model.")]
    NotTakenBack(Box<Self>, Box<Self>),
    #[error(
        "Requests go through copies of what was made by hand. The originals' names are needed, and {0} keep them: \
         to let go,\n  {1}\nand then run this again"
    )]
    Kept(String, String),
    #[error("writing YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
    #[error("reading JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Whether it is the arguments, or the access to the cluster.
    pub(crate) fn is_bad_input(&self) -> bool {
        matches!(self, Self::Cluster(_) | Self::Config(_))
    }
}

/// What is to be done.
#[derive(Debug)]
struct Migration {
    /// The Model's name.
    model: String,
    by_hand: ByHand,
    /// The Model's annotations at the end.
    annotations: BTreeMap<String, String>,
    notes: Vec<String>,
    /// Whether names of hand-made objects are needed.
    collides: BTreeSet<(String, String)>,
    /// Whether the Gateways write statuses.
    reports: bool,
}

/// Hands over, or tells how it would.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let cluster = arguments.access.cluster().await?;
    let namespace = arguments
        .namespace
        .clone()
        .unwrap_or(cluster.namespace.clone());
    let config = config::read_or_ask(arguments.config.as_deref(), &cluster.client).await?;
    let api: Api<ModelBooster> = Api::namespaced(cluster.client.clone(), &namespace);
    let called = format!("ModelBooster {namespace}/{}", arguments.model);
    let model = api.get_opt(&arguments.model).await;
    let model = model.map_err(|e| Error::Read(called.clone(), cause(&e)))?;
    let Some(model) = model else {
        return Err(Error::NoModel(namespace, arguments.model.clone()));
    };
    let lists = Lists::read(&cluster.client, &namespace, &arguments.model).await?;
    let uid = model.metadata.uid.as_deref().unwrap_or_default();
    let found = ByHand::find(&lists, &arguments.model, uid, arguments.pool.as_deref())?;
    let Some(by_hand) = found else {
        let said = "nothing was made by hand for it; expose it with kthena-bridge annotate";
        return Ok(output::print(&format!("{called}: {said}\n"))?);
    };
    let seen = seen(&cluster, &namespace).await?;
    let migration = prepare(by_hand, &model, &lists, &config, &seen)?;
    let copies = if migration.collides.is_empty() {
        None
    } else {
        Some(aside::copies(&migration.by_hand, &arguments.model).map_err(Error::NoCopy)?)
    };
    output::print(&migration.told(&called, copies.as_ref()))?;
    if !arguments.yes {
        return Ok(output::print("\nNothing was written; --yes does it.\n")?);
    }
    let hand_over = HandOver {
        client: cluster.client,
        config,
        namespace,
        name: arguments.model.clone(),
        uid: uid.to_owned(),
        reports: migration.reports,
        timeout: Duration::from_secs(arguments.timeout.into()),
        settle: Duration::from_secs(arguments.settle.into()),
        drain: Duration::from_secs(arguments.drain.into()),
    };
    hand_over.back_up(arguments.backup.as_deref(), &migration.by_hand)?;
    let by_hand = match &copies {
        Some(copies) => {
            let collides = &migration.collides;
            hand_over
                .set_aside(&migration.by_hand, copies, collides)
                .await?;
            copies
        }
        None => &migration.by_hand,
    };
    Box::pin(hand_over.expose(by_hand, &migration.annotations)).await?;
    hand_over
        .clean_up(by_hand, arguments.keep && copies.is_none())
        .await
}

/// What the operator would see, all of it: on less, it would be judged otherwise.
async fn seen(cluster: &Cluster, namespace: &str) -> Result<Seen, Error> {
    let looked = Looked {
        children: &ChildKind::ALL,
        decisions: true,
        whole: false,
    };
    let seen = observe(&cluster.client, Some(namespace), looked).await?;
    if seen.partly {
        let ask = "ask for the rights that are missing, or have somebody migrate who has them";
        return Err(Error::Partly("the cluster", ask));
    }
    Ok(seen)
}

/// Finds out what is to be done, and whether it can be.
fn prepare(
    by_hand: ByHand,
    model: &ModelBooster,
    lists: &Lists,
    config: &Config,
    seen: &Seen,
) -> Result<Migration, Error> {
    let of = |field: &Option<String>| field.clone().unwrap_or_default();
    let (namespace, name) = (of(&model.metadata.namespace), of(&model.metadata.name));
    if let Some(why) = config::not_watched(config, &namespace) {
        return Err(Error::NotWatched(namespace, name, why));
    }
    let objects = &seen.of_operator(config);
    let parse = |annotations: &BTreeMap<String, String>| {
        let exposure = Exposure::parse(&namespace, &name, annotations, config);
        let exposure = exposure.map_err(|invalid| Error::NotTheSame(invalid.to_string()))?;
        exposure.ok_or_else(|| Error::NotTheSame("it is not exposed".to_owned()))
    };
    let topology = |annotations: &BTreeMap<String, String>| {
        let exposure = parse(annotations)?;
        let topology = Topology::of_model(&exposure, model, objects).map_err(Error::Refused)?;
        Ok::<_, Error>((exposure, topology))
    };
    // What the annotations do not say decides what they have to.
    let asked = |served: &[String], port| {
        asked::read(&by_hand, &name, served, port, config)
            .map_err(|problems| Error::NotTheSame(problems.join("; ")))
    };
    let before = model.metadata.annotations.clone().unwrap_or_default();
    let temporary = temporary_path(&namespace, &name);
    let kept = before.iter().filter(|(key, value)| {
        key::is_ours(key) && *key != key::EXPOSE && !(*key == key::PATH && **value == temporary)
    });
    let kept: BTreeMap<String, String> = kept
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let first = asked(&[], 0)?;
    let mut without_port = [first.annotations, kept.clone()].concat_maps();
    if !kept.contains_key(key::TARGET_PORT) {
        without_port.remove(key::TARGET_PORT);
    }
    let (_, derived) = topology(&without_port)?;
    let asked = asked(&derived.served_names, derived.target_port)?;
    let by_route = parse(&asked.annotations)?;
    let annotations = [asked.annotations, kept].concat_maps();
    let (exposure, topology) = topology(&annotations)?;
    let place = |e: &Exposure| {
        let hosts = if e.hostnames.is_empty() {
            "any host".to_owned()
        } else {
            e.hostnames.join(", ")
        };
        let gateways: Vec<String> = e.gateways.iter().map(ToString::to_string).collect();
        let header = if e.match_model {
            ", with the header X-Gateway-Model-Name"
        } else {
            ""
        };
        format!(
            "{hosts}, path {}, on {}{header}",
            e.path,
            gateways.join(", ")
        )
    };
    if place(&exposure) != place(&by_route) {
        return Err(Error::Elsewhere(place(&exposure), place(&by_route)));
    }
    if !topology.activated {
        return Err(Error::NotActive(namespace, name));
    }
    let uid = model.metadata.uid.as_deref().unwrap_or_default();
    let mut collides = BTreeSet::new();
    for desired in planned::build(&exposure, &topology, config, objects).objects {
        let resource = desired.kind.api_resource();
        let taken = lists
            .objects
            .iter()
            .find(|o| o.resource == resource && o.name() == desired.name && !o.is_owned_by(uid));
        let Some(taken) = taken else { continue };
        if !by_hand
            .all()
            .any(|o| o.resource == resource && o.name() == taken.name())
        {
            let resource = format!("{}/{}", resource.plural, taken.name());
            return Err(Error::NameTaken(taken.to_string(), namespace, resource));
        }
        collides.insert((resource.kind, desired.name));
    }
    Ok(Migration {
        model: name,
        reports: topology.gateways.iter().all(|g| g.provider.reports),
        by_hand,
        annotations,
        notes: asked.notes,
        collides,
    })
}

/// Where routes are that have nobody's requests.
const TEMPORARY: &str = "/kthena-bridge-migration/";

/// Where the routes of a Model are that have nobody's requests.
fn temporary_path(namespace: &str, name: &str) -> String {
    format!("{TEMPORARY}{namespace}/{name}")
}

/// Maps put together; what comes later counts.
trait ConcatMaps {
    fn concat_maps(self) -> BTreeMap<String, String>;
}

impl ConcatMaps for [BTreeMap<String, String>; 2] {
    fn concat_maps(self) -> BTreeMap<String, String> {
        self.into_iter().flatten().collect()
    }
}

/// What keeps some of these objects as they are.
fn keepers<'a>(objects: impl Iterator<Item = &'a Object>) -> Vec<Keeper> {
    let keepers: BTreeSet<Keeper> = objects.filter_map(Object::keeper).collect();
    keepers.into_iter().collect()
}
