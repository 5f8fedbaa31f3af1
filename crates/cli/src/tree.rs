//! `kthena-bridge tree`: everything of a Model, from it to its pods, with what the cluster says of each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::Style;
use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::condition::ConditionType;
use kthena_bridge_api::gateway::{Gateway, ParentReference, ParentStatus};
use kthena_bridge_core::observe::{Child, Cluster as _, Detail, Objects, Pod};
use kthena_bridge_core::{Owner, Source, plan};
use serde::{Deserialize, Serialize};

use crate::cluster::{self, Access};
use crate::config;
use crate::desired::{Desired, decide};
use crate::observe::{self, Looked, Named, Seen, observe};
use crate::output::{self, BAD, Document, PLAIN, UNKNOWN, style_of, styled};

/// Arguments of `tree`.
#[derive(Args)]
#[command(after_long_help = "\
Below a Gateway stands what it says of the object above it, and then of itself. What should exist and does not
is shown as missing, and what is there but no longer wanted as surplus.

  -o json and -o yaml print nodes: kind, namespace, name, state (missing, surplus, foreign, unknown; else left out), note,
  conditions ([{type, status, reason, message}]), says (as conditions: what a Gateway says of the node above it)
  and children. What is empty is left out.

Exit codes:
  0  the Model is shown, however it fares
  1  the Model does not exist
  2  the arguments or the cluster's access are wrong, or the cluster does not answer")]
pub(crate) struct Arguments {
    /// The Model or, as modelexposure/NAME, the ModelExposure.
    #[arg(value_name = "MODEL")]
    model: String,
    /// The namespace; else that of the kubeconfig's context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// The form of the output; else a tree.
    #[arg(short, long, value_enum)]
    output: Option<Document>,
    /// The operator's configuration file; else its ConfigMap in the cluster is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
}

/// Why there is no tree.
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
}

/// Prints the tree of a Model.
#[tokio::main]
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let cluster = arguments.access.cluster().await?;
    let namespace = arguments.namespace.clone().unwrap_or(cluster.namespace);
    let looked = Looked {
        children: &ChildKind::ALL,
        decisions: true,
        whole: true,
    };
    let (seen, config) = futures::join!(
        observe(&cluster.client, Some(&namespace), looked),
        config::read_or_ask(arguments.config.as_deref(), &cluster.client)
    );
    let (mut seen, config) = (seen?, config?);
    let Some(source) = seen.source(&namespace, &arguments.model) else {
        anstream::eprintln!(
            "error: {} does not exist; see kubectl get modelboosters,modelexposures --namespace {namespace}",
            Named::of(&arguments.model).called(&namespace)
        );
        return Ok(ExitCode::FAILURE);
    };
    let of_it = |objects: &Objects| [Desired::of(&source, &config, objects)];
    let [desired] = decide(&cluster.client, &config, &mut seen, of_it).await?;
    let tree = Tree {
        owner: source.owner(),
        desired,
        seen: &seen,
    }
    .of(&source);
    output::print(&match arguments.output {
        None => tree.drawn(),
        Some(form) => output::document(&tree, form)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// An object, and what belongs below it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    kind: String,
    namespace: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    /// What a Gateway says of the node above it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    says: Vec<Said>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Said>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<Self>,
}

/// Where what is there is not what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    /// It should exist.
    Missing,
    /// It is no longer wanted.
    Surplus,
    /// It belongs to somebody else.
    Foreign,
    /// It may not be read.
    Unknown,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Surplus => "surplus: no longer wanted",
            Self::Foreign => "belongs to somebody else",
            Self::Unknown => "may not be read",
        }
    }
}

/// A condition. Some kinds leave out the reason or the message.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
struct Said {
    r#type: String,
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

impl From<&Condition> for Said {
    fn from(condition: &Condition) -> Self {
        Self {
            r#type: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        }
    }
}

fn said(conditions: &[Condition]) -> Vec<Said> {
    conditions.iter().map(Said::from).collect()
}

/// Makes the nodes of one Model.
struct Tree<'a> {
    owner: Owner,
    desired: Desired,
    seen: &'a Seen,
}

impl Tree<'_> {
    fn of(&self, source: &Source) -> Node {
        let ours = |c: &Condition| {
            ConditionType::ALL
                .iter()
                .position(|t| t.as_str() == c.type_)
        };
        let mut conditions: Vec<&Condition> = source.conditions().iter().collect();
        conditions.sort_by_key(|c| ours(c).unwrap_or(usize::MAX));
        let mut node = Node {
            conditions: conditions.into_iter().map(Said::from).collect(),
            note: match &self.desired {
                Desired::AsItIs(why) => why.clone(),
                Desired::Nothing => "not exposed".to_owned(),
                Desired::Served(served) if served.exposure.paused => "paused".to_owned(),
                Desired::Served(served) if !served.topology.activated => {
                    "the HTTPRoute is made when the Model has been active with a ready pod"
                        .to_owned()
                }
                // Accepted says it.
                Desired::Refused(_) | Desired::Served(_) => String::new(),
            },
            ..self.node(self.owner.kind.as_str(), &self.owner.name)
        };
        let (mut route, mut pool) = (None, None);
        let mut others = Vec::new();
        let mut pickers = Vec::new();
        for (kind, name, child) in self.children() {
            let child_node = self.child(kind, &name, child);
            match kind {
                ChildKind::HTTPRoute if route.is_none() => route = Some(child_node),
                ChildKind::InferencePool if pool.is_none() => pool = Some(child_node),
                // Of Istio's own, beside the picker that it is for.
                ChildKind::DestinationRule => others.push(child_node),
                _ if kind.is_pickers() => pickers.push(child_node),
                _ => others.push(child_node),
            }
        }
        if let Some(pool) = &mut pool {
            // After the Gateways and before the pods.
            let at = pool.children.iter().position(|n| n.kind == "Pod");
            let at = at.unwrap_or(pool.children.len());
            pool.children.splice(at..at, pickers);
        } else {
            others.splice(0..0, pickers);
        }
        node.children = route.into_iter().chain(pool).chain(others).collect();
        node
    }

    /// What is there or wanted, in the order of the kinds.
    fn children(&self) -> Vec<(ChildKind, String, Option<&Child>)> {
        let objects = &self.seen.objects;
        let mut children: Vec<(ChildKind, String, Option<&Child>)> = objects
            .children
            .values()
            .filter(|child| child.namespace() == self.owner.namespace)
            .filter(|child| child.belongs_to(&self.owner.uid, &self.owner.names().model))
            .map(|child| (child.kind, child.name().to_owned(), Some(&**child)))
            .collect();
        if let Desired::Served(served) = &self.desired {
            for object in &served.plan.objects {
                let is = |c: &(ChildKind, String, _)| (c.0, &c.1) == (object.kind, &object.name);
                if !children.iter().any(is) {
                    let key = (
                        object.kind,
                        self.owner.namespace.clone(),
                        object.name.clone(),
                    );
                    let foreign = objects.children.get(&key).map(|child| &**child);
                    children.push((object.kind, object.name.clone(), foreign));
                }
            }
            for kind in &served.plan.missing {
                let names = &served.topology.names;
                let name = if kind.is_pickers() {
                    &names.picker
                } else {
                    &names.model
                };
                children.push((*kind, name.clone(), None));
            }
        }
        children.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        children
    }

    fn child(&self, kind: ChildKind, name: &str, child: Option<&Child>) -> Node {
        let mut node = self.node(kind.as_str(), name);
        let Some(child) = child else {
            node.state = Some(State::Missing);
            if self.seen.unknown.contains(&kind) {
                node.state = Some(State::Unknown);
            }
            if self.seen.objects.missing.contains(&kind) {
                node.note = format!(
                    "the CRD {} is not installed",
                    kind.crd().unwrap_or_default()
                );
            }
            return node;
        };
        if !child.belongs_to(&self.owner.uid, &self.owner.names().model) {
            node.state = Some(State::Foreign);
            return node;
        }
        if self.is_surplus(child) {
            node.state = Some(State::Surplus);
        }
        let key = (kind, child.namespace().to_owned(), name.to_owned());
        let conditions = self.seen.whole.get(&key);
        let conditions = conditions.and_then(|object| object.pointer("/status/conditions"));
        node.conditions = conditions
            .and_then(|c| Vec::<Said>::deserialize(c).ok())
            .unwrap_or_default();
        match &child.detail {
            Detail::None => {}
            Detail::Route {
                parent_refs,
                parents,
            } => {
                let parent = |r: &ParentReference| self.parent(r, parents, true);
                node.children = parent_refs.iter().map(parent).collect();
            }
            Detail::Pool {
                selector,
                target_port,
                failure_mode,
                picker,
                parents,
            } => {
                let port = target_port.map_or(String::new(), |port| format!("port {port}, "));
                node.note = format!("{port}{failure_mode}");
                // Of a pool only the status names Gateways.
                let parent = |p: &ParentStatus| self.parent(&p.parent_ref, parents, false);
                node.children = parents.iter().map(parent).collect();
                if *picker != self.owner.names().picker {
                    node.children.push(Node {
                        note: "the endpoint picker of somebody else".to_owned(),
                        ..self.node("Service", picker)
                    });
                }
                node.children.extend(self.pods(selector, *target_port));
            }
            Detail::Deployment { .. } => {
                node.children = self.pods(&plan::picker_labels(name), None);
            }
        }
        node
    }

    fn is_surplus(&self, child: &Child) -> bool {
        match &self.desired {
            Desired::Nothing => true,
            Desired::Served(served) => !served.plan.keeps(child),
            Desired::AsItIs(_) | Desired::Refused(_) => false,
        }
    }

    /// A Gateway that an object is attached to, with what it says of that object.
    fn parent(
        &self,
        reference: &ParentReference,
        parents: &[ParentStatus],
        with_itself: bool,
    ) -> Node {
        let objects = &self.seen.objects;
        let own = &self.owner.namespace;
        let of = |r: &ParentReference| r.namespace.clone().unwrap_or_else(|| own.clone());
        let namespace = of(reference);
        let is = |p: &&ParentStatus| {
            (&p.parent_ref.name, &p.parent_ref.section_name)
                == (&reference.name, &reference.section_name)
                && of(&p.parent_ref) == namespace
        };
        let says = parents.iter().filter(is).flat_map(|p| said(&p.conditions));
        let mut node = Node {
            kind: reference
                .kind
                .clone()
                .unwrap_or_else(|| "Gateway".to_owned()),
            name: reference.name.clone(),
            says: says.collect(),
            namespace,
            ..Node::default()
        };
        if let Some(listener) = &reference.section_name {
            node.note = format!("listener {listener}");
        }
        if node.kind != "Gateway" {
            return node;
        }
        match objects.gateway(&node.namespace, &node.name) {
            None => node.state = Some(State::Missing),
            Some(gateway) if with_itself => itself(&mut node, &gateway, reference, objects),
            Some(_) => {}
        }
        node
    }

    fn pods(&self, labels: &BTreeMap<String, String>, port: Option<u16>) -> Vec<Node> {
        let mut pods = self.seen.objects.pods(&self.owner.namespace, labels);
        pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        if pods.is_empty() {
            let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            return vec![Node {
                state: Some(State::Missing),
                note: format!("no pod has the labels {}", labels.join(",")),
                ..self.node("Pod", "")
            }];
        }
        pods.iter().map(|p| self.pod(p, port)).collect()
    }

    fn pod(&self, pod: &Pod, port: Option<u16>) -> Node {
        let mut node = self.node("Pod", &pod.metadata.name);
        let status = if pod.ready { "True" } else { "False" };
        node.conditions = vec![Said {
            r#type: "Ready".to_owned(),
            status: status.to_owned(),
            message: pod.stuck.clone().unwrap_or_default(),
            ..Said::default()
        }];
        if let Some(port) = port.filter(|port| !pod.may_serve(*port)) {
            let ports: Vec<String> = pod.ports.iter().map(u16::to_string).collect();
            node.note = format!("serves port {}, not {port}", ports.join(", "));
        }
        node
    }

    fn node(&self, kind: &str, name: &str) -> Node {
        Node {
            kind: kind.to_owned(),
            namespace: self.owner.namespace.clone(),
            name: name.to_owned(),
            ..Node::default()
        }
    }
}

/// Adds what a Gateway says of itself, and of the listener that is asked for.
fn itself(node: &mut Node, gateway: &Gateway, reference: &ParentReference, objects: &Objects) {
    let class = &gateway.spec.gateway_class_name;
    let mut notes: Vec<String> = Vec::new();
    notes.extend((!node.note.is_empty()).then(|| node.note.clone()));
    notes.push(match objects.gateway_class(class) {
        Some(found) => format!("class {class} ({})", found.spec.controller_name),
        None => format!("class {class} (missing)"),
    });
    let Some(status) = &gateway.status else {
        node.note = notes.join(", ");
        return;
    };
    let addresses: Vec<&str> = status.addresses.iter().map(|a| a.value.as_str()).collect();
    if !addresses.is_empty() {
        notes.push(format!("address {}", addresses.join(", ")));
    }
    node.note = notes.join(", ");
    node.conditions = said(&status.conditions);
    let asked = status
        .listeners
        .iter()
        .filter(|l| reference.section_name.as_ref() == Some(&l.name));
    for listener in asked {
        node.children.push(Node {
            kind: "Listener".to_owned(),
            namespace: node.namespace.clone(),
            name: listener.name.clone(),
            conditions: said(&listener.conditions),
            ..Node::default()
        });
    }
}

impl Node {
    /// As a tree, a line for each node and one for each condition that does not hold.
    fn drawn(&self) -> String {
        let mut lines = Vec::new();
        self.lines("", "", &self.namespace, &mut lines);
        let width = lines
            .iter()
            .filter_map(|l| l.tells.as_ref().map(|_| l.length));
        let width = width.max().unwrap_or_default();
        let mut text = String::new();
        for line in lines {
            text.push_str(&line.text);
            if let Some(tells) = line.tells {
                let padding = width + 2 - line.length;
                // Writing to a String cannot fail.
                let _ = write!(text, "{:padding$}{tells}", "");
            }
            text.push('\n');
        }
        text
    }

    /// `before` stands before this line, `below` before those of its children.
    fn lines(&self, before: &str, below: &str, own: &str, lines: &mut Vec<Line>) {
        let name = if self.namespace == own {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        };
        let called = format!("{before}{} {name}", self.kind);
        let mut tells: Vec<String> = Vec::new();
        if let Some(state) = self.state {
            let style = match state {
                State::Missing | State::Foreign => BAD,
                State::Surplus | State::Unknown => UNKNOWN,
            };
            tells.push(styled(state.as_str(), style));
        }
        if !self.says.is_empty() {
            tells.push(format!("says {}", summary(&self.says)));
        }
        if !self.conditions.is_empty() {
            let is = if self.says.is_empty() { "" } else { "is " };
            tells.push(format!("{is}{}", summary(&self.conditions)));
        }
        if !self.note.is_empty() {
            tells.push(self.note.clone());
        }
        let called = called.trim_end().to_owned();
        lines.push(Line {
            length: called.chars().count(),
            text: called,
            tells: (!tells.is_empty()).then(|| tells.join("; ")),
        });
        let bar = if self.children.is_empty() {
            "    "
        } else {
            "│   "
        };
        for said in self.says.iter().chain(&self.conditions) {
            if said.message.is_empty() || said.is_good() {
                continue;
            }
            lines.push(Line {
                text: format!("{below}{bar}{}: {}", said.r#type, said.message),
                length: 0,
                tells: None,
            });
        }
        for (index, child) in self.children.iter().enumerate() {
            let (branch, next) = if index + 1 == self.children.len() {
                ("└── ", "    ")
            } else {
                ("├── ", "│   ")
            };
            let (before, below) = (format!("{below}{branch}"), format!("{below}{next}"));
            child.lines(&before, &below, own, lines);
        }
    }
}

/// A line of a drawn tree.
struct Line {
    text: String,
    length: usize,
    tells: Option<String>,
}

impl Said {
    /// Whether it is as it should be: some types are good when they are False.
    fn is_good(&self) -> bool {
        let inverse = matches!(
            self.r#type.as_str(),
            "Failed" | "ReplicaFailure" | "Conflicted" | "PartiallyInvalid"
        );
        (self.status == "True") != inverse && self.status != "Unknown"
    }

    fn style(&self) -> Style {
        match self.status.as_str() {
            "True" | "False" if self.is_good() => PLAIN,
            "True" => BAD,
            other => style_of(other),
        }
    }
}

/// `Type=Status`, with the reason where it is not as it should be.
fn summary(conditions: &[Said]) -> String {
    let shown: Vec<String> = conditions
        .iter()
        .map(|said| {
            let reason = if said.is_good() || said.reason.is_empty() {
                String::new()
            } else {
                format!(" ({})", said.reason)
            };
            let text = format!("{}={}{reason}", said.r#type, said.status);
            styled(&text, said.style())
        })
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kthena_bridge_api::kthena::ModelBooster;
    use kthena_bridge_core::Config;

    use super::*;
    use crate::fixture;

    fn drawn(model: &ModelBooster, seen: &Seen) -> String {
        let source = Source::from(model.clone());
        let tree = Tree {
            owner: source.owner(),
            desired: Desired::of(&source, &Config::default(), &seen.objects),
            seen,
        };
        let drawn = tree.of(&source).drawn();
        anstream::adapter::strip_str(&drawn).to_string()
    }

    #[test]
    fn all_of_a_model_is_drawn() {
        let mut seen = fixture::seen();
        let key = (ChildKind::HTTPRoute, "a".to_owned(), "demo".to_owned());
        let route = Arc::make_mut(seen.objects.children.get_mut(&key).unwrap());
        if let Detail::Route { parents, .. } = &mut route.detail {
            let said = serde_json::json!([{"parentRef": {"name": "g"}, "conditions": [
                {"type": "Accepted", "status": "False", "reason": "NoMatchingListenerHostname",
                    "message": "no host fits", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}]);
            *parents = serde_json::from_value(said).unwrap();
        }
        insta::assert_snapshot!(drawn(&seen.objects.boosters[0], &seen));
    }

    #[test]
    fn what_is_missing_surplus_or_somebody_elses_is_marked() {
        let mut seen = fixture::seen();
        let key = |kind, name: &str| (kind, "a".to_owned(), name.to_owned());
        let children = &mut seen.objects.children;
        children.remove(&key(ChildKind::Deployment, "demo-epp"));
        children.remove(&key(ChildKind::DestinationRule, "demo-epp"));
        let service = children.get_mut(&key(ChildKind::Service, "demo-epp"));
        let service = Arc::make_mut(service.unwrap());
        service.metadata.owners[0].uid = "another".into();
        seen.objects.missing.push(ChildKind::DestinationRule);
        seen.objects
            .children
            .remove(&key(ChildKind::ConfigMap, "demo-epp"));
        seen.unknown.push(ChildKind::ConfigMap);
        seen.objects.pods.clear();
        let model = fixture::model(&[("priority", "1")]);
        insta::assert_snapshot!(drawn(&model, &seen));
    }
}
