//! `kthena-bridge annotate`: what a Model asks for, by flags that are checked as the operator checks them.

mod file;
mod settings;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::exposure::InvalidSettings;
use kthena_bridge_core::observe::Objects;
use kthena_bridge_core::topology::NotAccepted;
use kthena_bridge_core::{Config, Exposure, Target, Topology, ask, claims, holder};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{self, Access, Cluster};
use crate::config;
use crate::observe::{self, Looked, observe};
use settings::Settings;

/// The field manager of what a user writes by this command. Not the operator's: what it wrote is recognised
/// by its own.
pub(crate) const FIELD_MANAGER: &str = "kthena-bridge-cli";
/// How often a Model is read anew that somebody else writes at the same time.
const ATTEMPTS: u32 = 5;

/// Arguments of `annotate`.
#[derive(Args)]
#[command(after_long_help = "\
The Model is exposed, unless something is only reset, or --unexpose is given.

Exit codes:
  0  written, or nothing had to be
  1  not written: the operator would not accept it as the cluster is now, or the API server refuses it
  2  the arguments, a value or the cluster's access are wrong")]
pub(crate) struct Arguments {
    /// The Model. With --filename it may be left out where the files have one.
    #[arg(required_unless_present = "filename")]
    model: Option<String>,
    #[command(flatten)]
    settings: Settings,
    /// Change the Models of these files instead of the cluster's, and print them; - is standard input.
    #[arg(short = 'f', long, value_name = "FILE", help_heading = "Output")]
    filename: Vec<String>,
    /// Print the Model with its annotations, for Git, and write nothing.
    #[arg(short, long, value_enum, help_heading = "Output")]
    output: Option<Output>,
    /// Print the ModelExposure that says what the Model's annotations would, and write nothing.
    #[arg(long, help_heading = "Output", conflicts_with_all = ["filename", "output", "dry_run"])]
    as_object: bool,
    /// Say what would change, and write nothing.
    #[arg(long, help_heading = "Output", conflicts_with = "filename")]
    dry_run: bool,
    /// Write also what the operator would not accept as the cluster is now, such as a path that another
    /// route has.
    #[arg(long, conflicts_with = "filename")]
    force: bool,
    /// The operator's configuration file; else its ConfigMap in the cluster is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The Model's namespace; else the context's.
    #[arg(short, long, value_name = "NAME", help_heading = "Cluster")]
    namespace: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// The form of what is printed.
#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// The Model, without what the cluster adds.
    Yaml,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Observe(#[from] observe::Error),
    #[error("ModelBooster {0} cannot be read: {1}")]
    Get(String, String),
    #[error(transparent)]
    File(#[from] file::Error),
    #[error("ModelBooster {0}: {1}")]
    Invalid(String, InvalidSettings),
    #[error("there is no ModelBooster {0}/{1}; see kubectl get modelboosters -A")]
    NotFound(String, String),
    #[error(
        "ModelBooster {0} would not be accepted, {reason}: {1}; --force writes it all the same, and it is served \
         once that is mended",
        reason = .1.reason
    )]
    Refused(String, NotAccepted),
    #[error("ModelBooster {0} would not be served: {1}; --force writes it all the same")]
    NotWatched(String, String),
    #[error("ModelBooster {0} cannot be annotated: {1}")]
    Write(String, String),
    #[error("ModelBooster {0} is not exposed, so there is no ModelExposure that says the same")]
    NotExposed(String),
    #[error("ModelBooster {0} changes all the time; try again")]
    Busy(String),
    #[error("writing YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
    #[error("reading JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Whether what was asked for is wrong by itself, whatever the cluster is.
    pub(crate) fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Cluster(_)
                | Self::File(_)
                | Self::Invalid(..)
                | Self::NotExposed(_)
        )
    }
}

/// An annotation before and after. Nothing: it is not there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    key: String,
    before: Option<String>,
    after: Option<String>,
}

/// The annotations of ours that differ.
pub(crate) fn changes(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<Change> {
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| Change {
            key: key.clone(),
            before: before.get(key).cloned(),
            after: after.get(key).cloned(),
        })
        .collect()
}

/// What changed, in words.
fn told(model: &str, changes: &[Change], dry_run: bool) -> String {
    if changes.is_empty() {
        return format!("modelbooster {model} unchanged\n");
    }
    let mut text = format!(
        "modelbooster {model} {}\n",
        if dry_run {
            "would be annotated (nothing is written)"
        } else {
            "annotated"
        }
    );
    for Change { key, before, after } in changes {
        // Writing to a String cannot fail.
        let _ = match (before, after) {
            (Some(before), Some(after)) => writeln!(text, "  ~ {key}: {before:?} -> {after:?}"),
            (Some(before), None) => writeln!(text, "  - {key}: {before:?}"),
            (None, after) => writeln!(
                text,
                "  + {key}: {:?}",
                after.as_deref().unwrap_or_default()
            ),
        };
    }
    text
}

/// Changes annotations, and gives what is to be printed.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(arguments: &Arguments) -> Result<String, Error> {
    if !arguments.filename.is_empty() {
        let config = config::read(arguments.config.as_deref())?;
        return Ok(file::annotate(
            &arguments.filename,
            arguments.model.as_deref(),
            arguments.namespace.as_deref().unwrap_or("default"),
            &arguments.settings,
            &config,
        )?);
    }
    let cluster = arguments.access.cluster().await?;
    let namespace = arguments
        .namespace
        .clone()
        .unwrap_or(cluster.namespace.clone());
    let name = arguments.model.clone().unwrap_or_default();
    let config = config::read_or_ask(arguments.config.as_deref(), &cluster.client).await?;
    let api: Api<ModelBooster> = Api::namespaced(cluster.client.clone(), &namespace);
    let called = format!("{namespace}/{name}");
    for _ in 0..ATTEMPTS {
        let model = api.get_opt(&name).await;
        let model = model.map_err(|e| Error::Get(called.clone(), observe::cause(&e)))?;
        let Some(model) = model else {
            return Err(Error::NotFound(namespace, name));
        };
        let before = model.metadata.annotations.clone().unwrap_or_default();
        let after = arguments.settings.applied_to(&before);
        let parsed = Exposure::parse(&namespace, &name, &after, &config)
            .map_err(|invalid| Error::Invalid(called.clone(), invalid))?;
        if arguments.as_object {
            return as_object(&namespace, &name, &after, &config)
                .map_err(|invalid| Error::Invalid(called.clone(), invalid))?
                .ok_or_else(|| Error::NotExposed(called.clone()))
                .and_then(|object| Ok(serde_yaml::to_string(&object)?));
        }
        if let Some(exposure) = parsed.filter(|_| !arguments.force) {
            check(&model, &exposure, &config, &cluster, &called).await?;
        }
        if arguments.output.is_some() {
            return for_git(&cluster, &namespace, &name, &after).await;
        }
        let changes = changes(&before, &after);
        if arguments.dry_run || changes.is_empty() {
            return Ok(told(&called, &changes, arguments.dry_run));
        }
        match write(&api, &model, &changes).await {
            Ok(()) => return Ok(told(&called, &changes, false)),
            // Somebody else wrote since it was read: what was checked may not hold any more.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(Error::Write(called, observe::cause(&error))),
        }
    }
    Err(Error::Busy(called))
}

/// The ModelExposure of a Model's name that says what its annotations say.
fn as_object(
    namespace: &str,
    name: &str,
    annotations: &BTreeMap<String, String>,
    config: &Config,
) -> Result<Option<ModelExposure>, InvalidSettings> {
    let spec = Exposure::as_object(namespace, name, annotations, config)?;
    Ok(spec.map(|spec| {
        let mut exposure = ModelExposure::new(name, spec);
        exposure.metadata.namespace = Some(namespace.to_owned());
        exposure
    }))
}

/// Writes the annotations that differ, over the version that was looked at, and nothing else.
pub(crate) async fn write(
    api: &Api<ModelBooster>,
    model: &ModelBooster,
    changes: &[Change],
) -> kube::Result<()> {
    let annotations: serde_json::Map<String, Value> = changes
        .iter()
        .map(|change| (change.key.clone(), json!(change.after)))
        .collect();
    let patch = json!({"metadata": {
        "resourceVersion": model.metadata.resource_version,
        "annotations": annotations,
    }});
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let name = model.metadata.name.as_deref().unwrap_or_default();
    api.patch_metadata(name, &params, &Patch::Merge(patch))
        .await
        .map(drop)
}

/// Refuses what the operator would not accept as the cluster is now. What the caller may not read is
/// left for the operator to tell.
async fn check(
    model: &ModelBooster,
    exposure: &Exposure,
    config: &Config,
    cluster: &Cluster,
    called: &str,
) -> Result<(), Error> {
    let looked = Looked {
        children: &ChildKind::ALL,
        decisions: true,
        whole: false,
    };
    let namespace = model.metadata.namespace.as_deref();
    if let Some(why) = config::not_watched(config, namespace.unwrap_or_default()) {
        return Err(Error::NotWatched(called.to_owned(), why));
    }
    let seen = observe(&cluster.client, namespace, looked).await?;
    if seen.partly {
        anstream::eprintln!("note: whether it is accepted will show in the condition Accepted");
        return Ok(());
    }
    accepted(model, exposure, config, &seen.of_operator(config))
        .map_err(|refused| Error::Refused(called.to_owned(), refused))
}

/// Whether the operator would accept an exposure.
fn accepted(
    model: &ModelBooster,
    exposure: &Exposure,
    config: &Config,
    objects: &Objects,
) -> Result<(), NotAccepted> {
    let topology = Topology::of_model(exposure, model, objects)?;
    let owner = &topology.owner;
    holder::check(owner, &Target::Booster(Arc::new(model.clone())), objects)?;
    let (wanted, live) = ask::route(exposure, &topology, config, objects);
    claims::check(&wanted, live.as_deref(), objects, |_| false)
        .map_err(|conflict| conflict.refusal(owner))
}

/// The cluster's Model with these annotations, without what belongs to the cluster.
async fn for_git(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    annotations: &BTreeMap<String, String>,
) -> Result<String, Error> {
    let kind = kube::core::ApiResource::erase::<ModelBooster>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), namespace, &kind);
    let object = api.get(name).await;
    let object =
        object.map_err(|e| Error::Get(format!("{namespace}/{name}"), observe::cause(&e)))?;
    let mut object = serde_json::to_value(object)?;
    bare(&mut object, annotations);
    Ok(serde_yaml::to_string(&object)?)
}

/// Takes off what the API server, controllers and kubectl have added, and sets the annotations.
fn bare(object: &mut Value, annotations: &BTreeMap<String, String>) {
    const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    let Some(metadata) = metadata else { return };
    metadata
        .retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "finalizers"));
    let kept: BTreeMap<&String, &String> = annotations
        .iter()
        .filter(|(key, _)| *key != APPLIED)
        .collect();
    if !kept.is_empty() {
        metadata.insert("annotations".to_owned(), json!(kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = map(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let after = map(&[("a", "1"), ("b", "x"), ("d", "4")]);
        let changes = changes(&before, &after);
        insta::assert_snapshot!(told("default/demo", &changes, false), @r#"
        modelbooster default/demo annotated
          ~ b: "2" -> "x"
          - c: "3"
          + d: "4"
        "#);
        assert!(told("default/demo", &changes, true).contains("nothing is written"));
        assert_eq!(
            told("default/demo", &[], false),
            "modelbooster default/demo unchanged\n"
        );
    }

    #[test]
    fn what_belongs_to_the_cluster_does_not_go_to_git() {
        let mut object = json!({"kind": "ModelBooster", "spec": {"a": 1}, "status": {"conditions": []},
            "metadata": {"name": "demo", "uid": "u", "resourceVersion": "7", "managedFields": [],
                "labels": {"team": "a"}, "annotations": {"old": "gone"}}});
        let annotations = map(&[
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
            ("mine", "x"),
        ]);
        bare(&mut object, &annotations);
        assert_eq!(
            object,
            json!({"kind": "ModelBooster", "spec": {"a": 1},
                "metadata": {"name": "demo", "labels": {"team": "a"}, "annotations": {"mine": "x"}}})
        );
    }
}
