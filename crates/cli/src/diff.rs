//! `kthena-bridge diff`: the objects as they are against those that the operator would write now.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use clap::Args;
use kthena_bridge_api::annotation;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::observe::{Child, Objects};
use kthena_bridge_core::provider::GENERIC;
use kthena_bridge_core::{Ask, Config, Source, Topology, ownership};
use kube::core::ObjectMeta;
use serde_json::{Map, Value, json};
use similar::TextDiff;

use crate::cluster::{self, Access};
use crate::desired::{Desired, assume_active, decide};
use crate::input::{self, Input};
use crate::observe::{self, Looked, Named as Name, Seen, observe};
use crate::output::{self, BAD, GOOD, styled};
use crate::{EXIT_BAD_INPUT, config};

/// Where client-side apply remembers what it was given last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Lines around a difference.
const CONTEXT: usize = 3;

/// Arguments of `diff`.
#[derive(Args)]
#[command(after_long_help = "\
Only fields that the operator owns are compared, as it does itself: what others set beside them is left alone.
An object that is missing is shown as new, and one that is no longer wanted as removed.

Exit codes:
  0  nothing differs
  1  something differs
  2  something cannot be compared: the arguments or the cluster's access are wrong, a Model is not accepted, or
     an object of the same name belongs to somebody else")]
pub(crate) struct Arguments {
    /// Models or, as modelexposure/NAME, ModelExposures; else, without files, all that are exposed or have objects left.
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// File with ModelBoosters or ModelExposures, each compared as if it had been applied; - is standard input.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    filename: Vec<String>,
    /// The namespace; else that of the kubeconfig's context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "models", "filename"])]
    all_namespaces: bool,
    /// The operator's configuration file; else its ConfigMap in the cluster is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
}

/// Why nothing is compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Input(#[from] input::Error),
    #[error("there is no ModelBooster and no ModelExposure in {0}")]
    NoModel(String),
    #[error(transparent)]
    Observe(#[from] observe::Error),
    #[error(transparent)]
    Output(#[from] output::Error),
}

/// Prints what differs.
#[tokio::main]
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let cluster = arguments.access.cluster().await?;
    let own = arguments.namespace.clone().unwrap_or(cluster.namespace);
    let input = Input::read(&arguments.filename, &own)?;
    if input.sources.is_empty() && !arguments.filename.is_empty() {
        return Err(Error::NoModel(arguments.filename.join(", ")));
    }
    let elsewhere = |(_, source): &(String, Source)| source.owner().namespace != own;
    let everywhere = arguments.all_namespaces || input.sources.iter().any(elsewhere);
    let looked = Looked {
        children: &ChildKind::ALL,
        decisions: true,
        whole: true,
    };
    let (seen, config) = futures::join!(
        observe(&cluster.client, (!everywhere).then_some(&*own), looked),
        config::read_or_ask_where(arguments.config.as_deref(), &cluster.client)
    );
    let (mut seen, (config, origin)) = (seen?, config?);
    seen.objects.servings.splice(0..0, input.objects.servings);
    seen.objects.servers.splice(0..0, input.objects.servers);

    let mut told = Told::default();
    told.notes.extend(origin);
    let chosen = chosen(arguments, &own, &input.sources, &config, &seen, &mut told);
    // What is in the files is as if it had been applied, also as the target of something else.
    for one in &chosen {
        replace(&mut seen.objects, &one.source);
    }
    let of_all = |objects: &Objects| {
        let desired = chosen.iter().map(|chosen| chosen.desired(&config, objects));
        desired.collect::<Vec<_>>()
    };
    let desired = decide(&cluster.client, &config, &mut seen, of_all).await?;
    let owned = by_owner(&seen);
    for (chosen, desired) in chosen.iter().zip(&desired) {
        let uid = chosen.source.owner().uid;
        let owned = owned.get(&*uid).map(Vec::as_slice).unwrap_or_default();
        compare(&chosen.source, desired, owned, &seen, &mut told)?;
    }
    output::print(&coloured(&told.text))?;
    for note in &told.notes {
        anstream::eprintln!("note: {note}");
    }
    for error in &told.errors {
        anstream::eprintln!("error: {error}");
    }
    Ok(ExitCode::from(told.code()))
}

/// What a comparison has to tell.
#[derive(Debug, Default)]
struct Told {
    /// A unified diff for each object.
    text: String,
    notes: Vec<String>,
    errors: Vec<String>,
}

impl Told {
    fn code(&self) -> u8 {
        match (self.errors.is_empty(), self.text.is_empty()) {
            (false, _) => EXIT_BAD_INPUT,
            (true, false) => 1,
            (true, true) => 0,
        }
    }
}

/// What is compared.
struct Chosen {
    source: Source,
    /// Whether the cluster has it.
    live: bool,
}

/// Puts an object in the place of the one that the cluster has.
fn replace(objects: &mut Objects, source: &Source) {
    let is = |metadata: &ObjectMeta| {
        let own = source.metadata();
        (&metadata.namespace, &metadata.name) == (&own.namespace, &own.name)
    };
    match source {
        Source::Model(model) => {
            objects.boosters.retain(|other| !is(&other.metadata));
            objects.boosters.push(Arc::clone(model));
        }
        Source::Object(exposure) => {
            objects.exposures.retain(|other| !is(&other.metadata));
            objects.exposures.push(Arc::clone(exposure));
        }
    }
}

/// What is in the files, those that are named, or else all that have to do with the operator.
fn chosen(
    arguments: &Arguments,
    namespace: &str,
    files: &[(String, Source)],
    config: &Config,
    seen: &Seen,
    told: &mut Told,
) -> Vec<Chosen> {
    let mut chosen = Vec::new();
    for (_, file) in files {
        let owner = file.owner();
        let same = |source: &Source| {
            let other = source.owner();
            (other.kind, other.namespace, other.name)
                == (owner.kind, owner.namespace.clone(), owner.name.clone())
        };
        let live = seen.sources().find(same);
        if live.is_none() {
            told.notes.push(format!(
                "{owner} is not in the cluster; its objects are shown as they will be once it serves"
            ));
        }
        chosen.push(Chosen {
            live: live.is_some(),
            source: applied(file, live.as_ref()),
        });
    }
    for name in &arguments.models {
        match seen.source(namespace, name) {
            Some(source) => chosen.push(Chosen { source, live: true }),
            None => told.errors.push(format!(
                "{} does not exist; see kubectl get modelboosters,modelexposures --namespace {namespace}",
                Name::of(name).called(namespace)
            )),
        }
    }
    if files.is_empty() && arguments.models.is_empty() {
        let owners: BTreeSet<&str> = by_owner(seen).into_keys().collect();
        let ours = |source: &Source| {
            Ask::of(source, config, &seen.objects) != Ask::Nothing
                || owners.contains(&*source.owner().uid)
        };
        let live = seen.sources().filter(ours);
        chosen.extend(live.map(|source| Chosen { source, live: true }));
    }
    chosen
}

/// What a file has as it is once it is applied.
fn applied(file: &Source, live: Option<&Source>) -> Source {
    match (file, live) {
        (Source::Model(file), live) => {
            let live = live.and_then(|live| match live {
                Source::Model(live) => Some(&**live),
                Source::Object(_) => None,
            });
            applied_model(file, live).into()
        }
        (Source::Object(file), Some(Source::Object(live))) => {
            let mut exposure = ModelExposure::clone(file);
            exposure.metadata.clone_from(&live.metadata);
            exposure.status.clone_from(&live.status);
            exposure.into()
        }
        (Source::Object(_), _) => file.clone(),
    }
}

/// A Model: annotations that the file does not name stay, unless the file named them when it was applied last.
fn applied_model(file: &ModelBooster, live: Option<&ModelBooster>) -> ModelBooster {
    let mut model = file.clone();
    let Some(live) = live else {
        assume_active(&mut model);
        return model;
    };
    let mut annotations = live.metadata.annotations.clone().unwrap_or_default();
    let last: Value = annotations
        .get(LAST_APPLIED)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    annotations.retain(|key, _| last["metadata"]["annotations"].get(key).is_none());
    annotations.extend(file.metadata.annotations.clone().unwrap_or_default());
    model.metadata = live.metadata.clone();
    model.metadata.annotations = Some(annotations);
    model.status.clone_from(&live.status);
    model
}

impl Chosen {
    fn desired(&self, config: &Config, objects: &Objects) -> Desired {
        if self.live {
            return Desired::of(&self.source, config, objects);
        }
        let Ask::Exposure(exposure, target) = Ask::of(&self.source, config, objects) else {
            return Desired::of(&self.source, config, objects);
        };
        let owner = self.source.owner();
        let topology = Topology::of(&exposure, &owner, &target, objects).and_then(|topology| {
            let derived = Topology::offline(&exposure, &owner, &target, objects, &GENERIC)?;
            Ok(Topology {
                served_names: derived.served_names,
                activated: true,
                ..topology
            })
        });
        match topology {
            Ok(topology) => Desired::with(*exposure, topology, config, objects),
            Err(refused) => Desired::refused(&refused),
        }
    }
}

/// The objects of ours by the uids of their owners.
fn by_owner(seen: &Seen) -> HashMap<&str, Vec<Arc<Child>>> {
    let mut owned: HashMap<&str, Vec<Arc<Child>>> = HashMap::new();
    for child in seen.objects.children.values() {
        for owner in child.owners() {
            owned.entry(&owner.uid).or_default().push(Arc::clone(child));
        }
    }
    for children in owned.values_mut() {
        children.sort_by_key(|c| (c.kind, c.name().to_owned()));
    }
    owned
}

/// Compares the objects of one that asks for an exposure.
fn compare(
    source: &Source,
    desired: &Desired,
    owned: &[Arc<Child>],
    seen: &Seen,
    told: &mut Told,
) -> Result<(), output::Error> {
    let owner = source.owner();
    let (namespace, called) = (owner.namespace.clone(), owner.to_string());
    let mut surplus: Vec<&Arc<Child>> = owned.iter().filter(|child| !child.ending).collect();
    match desired {
        Desired::AsItIs(why) => {
            told.notes.push(format!("{called}: {why}"));
            return Ok(());
        }
        Desired::Refused(why) => {
            told.errors.push(format!(
                "{called} is not accepted, and nothing is written until it is: {why}"
            ));
            return Ok(());
        }
        Desired::Served(served) if served.exposure.paused => {
            told.notes.push(format!(
                "{called} is paused, so nothing is written; remove {} to have it compared",
                owner.setting(annotation::PAUSED)
            ));
            return Ok(());
        }
        Desired::Nothing => {}
        Desired::Served(served) => {
            for kind in &served.plan.missing {
                told.errors.push(format!(
                    "{called}: {kind} is needed and not installed; install the CRD {}",
                    kind.crd().unwrap_or_default()
                ));
            }
            for object in &served.plan.objects {
                let key = (object.kind, namespace.clone(), object.name.clone());
                let live = seen.objects.children.get(&key);
                if seen.unknown.contains(&object.kind) {
                    told.errors.push(format!(
                        "{called}: {} {namespace}/{} may not be read; ask for that right",
                        object.kind, object.name
                    ));
                    continue;
                }
                if live.is_some_and(|c| !c.belongs_to(&owner.uid, &served.topology.names.model)) {
                    told.errors.push(format!(
                        "{called}: {} {namespace}/{} exists and does not belong to it; it is left alone: remove or rename it",
                        object.kind, object.name
                    ));
                    continue;
                }
                if live.is_some_and(|child| child.digest == object.digest) {
                    continue;
                }
                let named = (object.kind, &*namespace, &*object.name);
                let wanted = ownership::wanted(&object.object);
                let (is, here) = match seen.whole.get(&key) {
                    Some(whole) => {
                        let owned = ownership::owned(object.kind, whole);
                        let here = found(whole, Some(&owned), &wanted);
                        (Some(owned), Some(here))
                    }
                    None => (None, None),
                };
                let (is, here) = (yaml(named, is)?, yaml(named, here)?);
                let wanted = yaml(named, Some(wanted))?;
                // What has the wanted value but another owner is written again all the same.
                let is = if here == wanted { is } else { here };
                told.text.push_str(&unified(named, &is, &wanted));
            }
            surplus.retain(|child| !served.plan.keeps(child));
        }
    }
    for child in surplus {
        let key = (child.kind, namespace.clone(), child.name().to_owned());
        let is = seen
            .whole
            .get(&key)
            .map(|is| ownership::owned(child.kind, is));
        let named = (child.kind, &*namespace, child.name());
        told.text.push_str(&unified(named, &yaml(named, is)?, ""));
    }
    Ok(())
}

/// Kind, namespace and name.
type Named<'a> = (ChildKind, &'a str, &'a str);

/// Fields with what names their object; empty when there is none.
fn yaml(
    (kind, namespace, name): Named<'_>,
    fields: Option<Value>,
) -> Result<String, output::Error> {
    let Some(mut fields) = fields else {
        return Ok(String::new());
    };
    prune(&mut fields);
    fields["apiVersion"] = kind.api_version().into();
    fields["kind"] = kind.as_str().into();
    if !fields["metadata"].is_object() {
        fields["metadata"] = json!({});
    }
    fields["metadata"]["namespace"] = namespace.into();
    fields["metadata"]["name"] = name.into();
    Ok(serde_yaml::to_string(&fields)?)
}

/// What is found in a live object where something is ours or wanted: what is wanted and not ours has the
/// value that somebody else gave it.
fn found(live: &Value, owned: Option<&Value>, wanted: &Value) -> Value {
    let (Value::Object(live), Value::Object(wanted)) = (live, wanted) else {
        return owned.unwrap_or(live).clone();
    };
    let mut fields = match owned {
        Some(Value::Object(owned)) => owned.clone(),
        _ => Map::new(),
    };
    for (key, wanted) in wanted {
        if let Some(live) = live.get(key) {
            let found = found(live, fields.get(key), wanted);
            fields.insert(key.clone(), found);
        }
    }
    Value::Object(fields)
}

/// Takes away what is empty: that and an absent field are one.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !ownership::is_empty(value));
            map.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

/// The differences of an object, as `diff -u` shows them.
fn unified((kind, namespace, name): Named<'_>, is: &str, wanted: &str) -> String {
    let header = |text: &str, which: &str| match text {
        "" => "/dev/null".to_owned(),
        _ => format!("{kind} {namespace}/{name} ({which})"),
    };
    let diff = TextDiff::from_lines(is, wanted);
    diff.unified_diff()
        .context_radius(CONTEXT)
        .header(&header(is, "live"), &header(wanted, "desired"))
        .to_string()
}

/// The lines of a diff in their colours.
fn coloured(diff: &str) -> String {
    let mut text = String::new();
    for line in diff.lines() {
        let style = match line.as_bytes() {
            [b'-', b'-', b'-', b' ', ..] | [b'+', b'+', b'+', b' ', ..] => Style::new().bold(),
            [b'@', b'@', ..] => AnsiColor::Cyan.on_default(),
            [b'+', ..] => GOOD,
            [b'-', ..] => BAD,
            _ => output::PLAIN,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", styled(line, style));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::observe::Ours;

    /// Exit code, diff, and notes and errors.
    fn told(model: &ModelBooster, seen: &Seen) -> (u8, String, String) {
        let mut told = Told::default();
        let source = Source::from(model.clone());
        let desired = Desired::of(&source, &Config::default(), &seen.objects);
        let owned = by_owner(seen).remove("u").unwrap_or_default();
        compare(&source, &desired, &owned, seen, &mut told).unwrap();
        let said = [told.notes.clone(), told.errors.clone()].concat();
        (told.code(), told.text, said.join("\n"))
    }

    fn whole(seen: &Seen, kind: ChildKind) -> Value {
        let found = seen.whole.iter().find(|(key, _)| key.0 == kind);
        found.unwrap().1.clone()
    }

    #[test]
    fn what_the_operator_wrote_does_not_differ() {
        let seen = fixture::seen();
        let same = (0, String::new(), String::new());
        assert_eq!(told(&seen.objects.boosters[0], &seen), same);
        // What others set beside it is not compared.
        let mut seen = seen;
        let mut service = whole(&seen, ChildKind::Service);
        service["metadata"]["annotations"] = json!({"theirs": "1"});
        let ours = service["spec"].as_object().unwrap().keys();
        let ours: Value = ours.map(|key| (format!("f:{key}"), json!({}))).collect();
        service["spec"]["ipFamilyPolicy"] = "SingleStack".into();
        service["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] = ours;
        seen.add(Ours::reduce(ChildKind::Service, service, true));
        assert_eq!(told(&seen.objects.boosters[0], &seen), same);
    }

    #[test]
    fn a_field_that_somebody_took_shows_the_value_that_it_has() {
        let mut seen = fixture::seen();
        let mut route = whole(&seen, ChildKind::HTTPRoute);
        route["spec"]["rules"][0]["timeouts"]["request"] = "1s".into();
        let ours = json!({"f:parentRefs": {}});
        route["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] = ours;
        seen.add(Ours::reduce(ChildKind::HTTPRoute, route.clone(), true));
        let (code, text, said) = told(&seen.objects.boosters[0], &seen);
        assert_eq!((code, said.as_str()), (1, ""));
        insta::assert_snapshot!(text);

        // The value is right, but another's: the operator takes it back.
        route["spec"]["rules"][0]["timeouts"]["request"] = "300s".into();
        seen.add(Ours::reduce(ChildKind::HTTPRoute, route, true));
        let (code, text, _) = told(&seen.objects.boosters[0], &seen);
        assert_eq!(code, 1);
        assert!(text.contains("+  rules:"), "{text}");
    }

    #[test]
    fn new_and_surplus_objects_are_whole() {
        let seen = fixture::seen();
        let model = fixture::model(&[("priority", "7")]);
        let (code, text, _) = told(&model, &seen);
        assert_eq!(code, 1);
        insta::assert_snapshot!(text);
        let mut off = fixture::model(&[]);
        off.metadata.annotations = None;
        let (code, text, said) = told(&off, &seen);
        assert_eq!((code, said.as_str()), (1, ""));
        assert_eq!(
            text.matches("+++ /dev/null").count(),
            seen.objects.children.len()
        );
    }

    #[test]
    fn what_cannot_be_compared_is_an_error_and_what_is_left_alone_a_note() {
        let mut seen = fixture::seen();
        let (code, text, said) = told(&fixture::model(&[("path", "x")]), &seen);
        assert_eq!((code, text.as_str()), (2, ""));
        assert!(said.contains("a/demo is not accepted"), "{said}");
        let (code, text, said) = told(&fixture::model(&[("paused", "true")]), &seen);
        assert_eq!((code, text.as_str()), (0, ""));
        assert!(said.contains("is paused"), "{said}");
        let mut young = fixture::model(&[]);
        young.status = None;
        let (code, text, said) = told(&young, &seen);
        assert_eq!((code, text.as_str()), (0, ""));
        assert!(said.contains("Kthena has not begun"), "{said}");
        let mut service = whole(&seen, ChildKind::Service);
        service["metadata"]["ownerReferences"][0]["uid"] = "another".into();
        seen.add(Ours::reduce(ChildKind::Service, service, true));
        let (code, _, said) = told(&seen.objects.boosters[0], &seen);
        assert_eq!(code, 2);
        assert!(
            said.contains("Service a/demo-epp exists and does not belong"),
            "{said}"
        );
    }

    #[test]
    fn what_may_not_be_read_is_not_taken_for_new() {
        let mut seen = fixture::seen();
        let children = &mut seen.objects.children;
        children.retain(|(kind, ..), _| *kind != ChildKind::ConfigMap);
        seen.unknown.push(ChildKind::ConfigMap);
        let (code, text, said) = told(&seen.objects.boosters[0], &seen);
        assert_eq!((code, text.as_str()), (2, ""));
        let wanted =
            "ModelBooster a/demo: ConfigMap a/demo-epp may not be read; ask for that right";
        assert_eq!(said, wanted);
    }

    #[test]
    fn a_file_is_taken_as_apply_takes_it() {
        let with = |annotations: &[(&str, &str)]| {
            let mut model = fixture::model(&[]);
            let all = annotations
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            model.metadata.annotations = Some(all.collect());
            model
        };
        let last = json!({"metadata": {"annotations": {"gone": "1", "kept": "1"}}}).to_string();
        let live = with(&[
            ("gone", "1"),
            ("kept", "1"),
            ("others", "1"),
            (LAST_APPLIED, &last),
        ]);
        let mut file = with(&[("kept", "2"), ("new", "2")]);
        file.metadata.uid = None;
        let applied = applied_model(&file, Some(&live));
        let mut annotations = applied.metadata.annotations.unwrap();
        annotations.remove(LAST_APPLIED);
        let shown: Vec<String> = annotations
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(shown, ["kept=2", "new=2", "others=1"]);
        assert_eq!(applied.metadata.uid.as_deref(), Some("u"));
        assert!(applied.status.is_some());
    }
}
