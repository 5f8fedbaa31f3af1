//! One of `status`: the structure of `-o json`, and a row of the table.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::condition::ConditionType;
use kthena_bridge_core::exposure::GatewayRef;
use kthena_bridge_core::observe::{Child, Cluster as _, Detail, Objects, Pod};
use kthena_bridge_core::{Ask, Config, Owner, OwnerKind, Source, Topology, plan, reachable};
use serde::Serialize;

use crate::observe::{PodIndex, Seen};
use crate::output::{self, BAD, Cell, GOOD, NONE, PLAIN, UNKNOWN, style_of};

/// The document of `-o json` and `-o yaml`.
#[derive(Debug, Serialize)]
pub(super) struct Rows {
    /// By namespace and name, or in the order in which they are named.
    pub(super) models: Vec<Row>,
}

/// What is exposed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    kind: &'static str,
    namespace: String,
    name: String,
    /// What a ModelExposure exposes, as `Kind/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    /// `namespace/name[:listener]`: those of its route, else those that its annotation names.
    gateways: Vec<String>,
    addresses: Vec<Location>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Endpoints>,
    model_names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_picker: Option<Picker>,
    /// Those of ours, in the order in which they are written.
    conditions: Vec<Condition>,
}

/// Where a Model answers.
#[derive(Debug, Serialize)]
struct Location {
    /// The base URL of its API.
    url: String,
    /// The Gateway's address and port.
    address: String,
    port: u16,
    /// Headers without which its route does not match.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
}

/// The pods that its pool selects.
#[derive(Debug, Serialize)]
struct Endpoints {
    /// Ready, and not known to serve on other ports only.
    ready: usize,
    total: usize,
}

/// Who picks endpoints.
#[derive(Debug, Serialize)]
struct Picker {
    service: String,
    /// Whether the operator runs it.
    managed: bool,
    /// Of one that the operator runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
}

/// By what the operator decides.
pub(super) struct Operator {
    pub(super) config: Config,
    /// What it sees.
    pub(super) objects: Objects,
}

impl Operator {
    /// The names that clients may send.
    fn model_names(&self, source: &Source) -> Vec<String> {
        let owner = source.owner();
        let asked = Ask::of(source, &self.config, &self.objects);
        let Ask::Exposure(exposure, target) = asked else {
            return Vec::new();
        };
        if !self.config.watches(&owner.namespace) {
            return Vec::new();
        }
        match Topology::of(&exposure, &owner, &target, &self.objects) {
            Ok(topology) => plan::model_names(&exposure, &topology),
            Err(_) => exposure.model_names.unwrap_or_default(),
        }
    }
}

impl Row {
    /// Of what is exposed; what is decided is left out where it is not known what the operator sees.
    pub(super) fn of(
        source: &Source,
        seen: &Seen,
        pods: &PodIndex<'_>,
        operator: Option<&Operator>,
    ) -> Self {
        let objects = &seen.objects;
        let owner = source.owner();
        let model_names = operator.map_or_else(Vec::new, |operator| operator.model_names(source));
        let route = owner
            .child(ChildKind::HTTPRoute, objects)
            .and_then(|child| objects.route(child.namespace(), child.name()));
        let (gateways, addresses) = match &route {
            Some(route) => (
                route
                    .gateways()
                    .map(|(namespace, name, listener)| GatewayRef {
                        namespace: namespace.to_owned(),
                        name: name.to_owned(),
                        listener: listener.map(str::to_owned),
                    })
                    .map(|gateway| gateway.to_string())
                    .collect(),
                reachable::targets(route, objects)
                    .into_iter()
                    .map(|target| Location {
                        url: target.base_url(),
                        address: target.address,
                        port: target.port,
                        headers: target.headers.into_iter().collect(),
                    })
                    .collect(),
            ),
            None => (asked_gateways(source), Vec::new()),
        };
        let conditions = source.conditions();
        let ours = |type_: ConditionType| {
            let mut conditions = conditions.iter();
            conditions.find(|c| c.type_ == type_.as_str()).cloned()
        };
        let target = match source {
            Source::Model(_) => None,
            Source::Object(exposure) => {
                let target = &exposure.spec.target_ref;
                Some(format!("{}/{}", target.kind, target.name))
            }
        };
        Self {
            kind: owner.kind.as_str(),
            target,
            created: owner.created,
            gateways,
            addresses,
            endpoints: endpoints(&owner, objects, pods),
            model_names,
            endpoint_picker: operator.and_then(|_| picker(&owner, objects)),
            conditions: ConditionType::ALL.into_iter().filter_map(ours).collect(),
            namespace: owner.namespace,
            name: owner.name,
        }
    }

    fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.type_ == type_.as_str())
    }

    fn condition_cell(&self, type_: ConditionType) -> Cell {
        match self.condition(type_) {
            None => Cell::styled(NONE, UNKNOWN),
            Some(c) if c.status == "True" => Cell::styled("True", GOOD),
            Some(c) => Cell::styled(format!("{} ({})", c.status, c.reason), style_of(&c.status)),
        }
    }

    fn cells(&self, with_namespace: bool, wide: bool, now: Timestamp) -> Vec<Cell> {
        let mut cells = Vec::new();
        if with_namespace {
            cells.push(Cell::new(&self.namespace));
        }
        let gateway = |gateway: &String| {
            let own = format!("{}/", self.namespace);
            gateway.strip_prefix(&own).unwrap_or(gateway).to_owned()
        };
        let gateways: Vec<String> = self.gateways.iter().map(gateway).collect();
        let urls: Vec<&str> = self.addresses.iter().map(|a| a.url.as_str()).collect();
        // A Model by its name, as it always was.
        cells.push(Cell::new(
            if self.kind == OwnerKind::ModelBooster.as_str() {
                self.name.clone()
            } else {
                format!("{}/{}", self.kind.to_lowercase(), self.name)
            },
        ));
        cells.push(Cell::new(gateways.join(",")));
        cells.push(Cell::new(urls.join(",")));
        cells.push(match &self.endpoints {
            None => Cell::new(NONE),
            Some(Endpoints { ready, total }) => {
                let style = if *ready == 0 { BAD } else { PLAIN };
                Cell::styled(format!("{ready}/{total}"), style)
            }
        });
        cells.push(self.condition_cell(ConditionType::Accepted));
        cells.push(self.condition_cell(ConditionType::Programmed));
        cells.push(Cell::new(
            self.created.map_or(String::new(), |c| output::age(c, now)),
        ));
        if wide {
            cells.push(Cell::new(self.model_names.join(",")));
            cells.push(match &self.endpoint_picker {
                None => Cell::new(NONE),
                Some(picker) if picker.ready == Some(false) => {
                    Cell::styled(format!("{} (not ready)", picker.service), BAD)
                }
                Some(picker) => Cell::new(&picker.service),
            });
            cells.push(Cell::new(self.message()));
        }
        cells
    }

    /// What stands in the way; else where and how it is served.
    fn message(&self) -> &str {
        let of = |type_| self.condition(type_);
        let two = [of(ConditionType::Accepted), of(ConditionType::Programmed)];
        let bad = two.into_iter().flatten().find(|c| c.status != "True");
        bad.or(two[1]).map_or("", |c| c.message.as_str())
    }
}

impl Rows {
    /// As a table.
    pub(super) fn table(&self, with_namespace: bool, wide: bool, now: Timestamp) -> String {
        let mut header = Vec::new();
        if with_namespace {
            header.push("NAMESPACE");
        }
        header.extend([
            "NAME",
            "GATEWAY",
            "ADDRESS",
            "READY",
            "ACCEPTED",
            "PROGRAMMED",
            "AGE",
        ]);
        if wide {
            header.extend(["MODEL NAMES", "PICKER", "MESSAGE"]);
        }
        let cells = |row: &Row| row.cells(with_namespace, wide, now);
        let rows: Vec<Vec<Cell>> = self.models.iter().map(cells).collect();
        output::table(&header, &rows)
    }
}

/// The Gateways that are named.
fn asked_gateways(source: &Source) -> Vec<String> {
    let exposure = source.exposure(&Config::default()).ok().flatten();
    let gateways = exposure.iter().flat_map(|e| &e.gateways);
    gateways.map(ToString::to_string).collect()
}

fn endpoints(owner: &Owner, objects: &Objects, pods: &PodIndex<'_>) -> Option<Endpoints> {
    let pool = owner.child(ChildKind::InferencePool, objects)?;
    let Detail::Pool {
        selector,
        target_port,
        ..
    } = &pool.detail
    else {
        return None;
    };
    let pods = pods.with(&owner.namespace, selector);
    let may_serve = |pod: &Pod| target_port.is_none_or(|port| pod.may_serve(port));
    Some(Endpoints {
        ready: pods.iter().filter(|p| p.ready && may_serve(p)).count(),
        total: pods.len(),
    })
}

fn picker(owner: &Owner, objects: &Objects) -> Option<Picker> {
    let pool = owner.child(ChildKind::InferencePool, objects)?;
    let Detail::Pool {
        picker: service, ..
    } = &pool.detail
    else {
        return None;
    };
    let managed = *service == owner.names().picker;
    let deployment = owner.child(ChildKind::Deployment, objects);
    let is_ready =
        |child: &Child| matches!(child.detail, Detail::Deployment { ready, .. } if ready > 0);
    Some(Picker {
        service: service.clone(),
        managed,
        ready: managed.then(|| deployment.is_some_and(|d| is_ready(&d))),
    })
}

#[cfg(test)]
mod tests {
    use kthena_bridge_api::kthena::ModelBooster;

    use super::*;
    use crate::fixture;

    fn operator(config: Config, seen: &Seen) -> Operator {
        Operator {
            objects: seen.of_operator(&config),
            config,
        }
    }

    fn shown(model: &ModelBooster, seen: &Seen, wide: bool) -> String {
        let source = Source::from(model.clone());
        let operator = wide.then(|| operator(Config::default(), seen));
        let pods = PodIndex::new(&seen.objects);
        let rows = Rows {
            models: vec![Row::of(&source, seen, &pods, operator.as_ref())],
        };
        let later = "2026-01-01T00:05:00Z".parse().unwrap();
        let table = rows.table(true, wide, later);
        anstream::adapter::strip_str(&table).to_string()
    }

    #[test]
    fn a_row_tells_where_a_model_answers_and_what_stands_in_the_way() {
        let seen = fixture::seen();
        insta::assert_snapshot!(shown(&seen.objects.boosters[0], &seen, false));
        insta::assert_snapshot!(shown(&seen.objects.boosters[0], &seen, true));
    }

    #[test]
    fn what_is_not_there_is_shown_as_none() {
        let mut seen = fixture::seen();
        seen.objects.children.clear();
        let mut model = fixture::model(&[("gateway", "infra/other:http,g")]);
        model.status = None;
        insta::assert_snapshot!(shown(&model, &seen, true));
    }

    #[test]
    fn a_gateway_of_another_port_and_pods_of_another_port_are_told() {
        let mut seen = fixture::seen();
        let gateway = std::sync::Arc::make_mut(&mut seen.objects.gateways[0]);
        gateway.spec.listeners[0].hostname = Some("m.example.com".to_owned());
        let pods = PodIndex::new(&seen.objects);
        let operator = operator(Config::default(), &seen);
        let source = Source::Model(std::sync::Arc::clone(&seen.objects.boosters[0]));
        let row = Row::of(&source, &seen, &pods, Some(&operator));
        insta::assert_json_snapshot!(row);
    }

    #[test]
    fn an_operator_of_some_namespaces_serves_no_names_elsewhere() {
        let seen = fixture::seen();
        let names = |config: &str| {
            let operator = operator(Config::parse(config).unwrap(), &seen);
            operator.model_names(&Source::Model(std::sync::Arc::clone(
                &seen.objects.boosters[0],
            )))
        };
        assert_eq!(names(""), ["demo", "served"]);
        assert_eq!(names("namespaces: [b]"), Vec::<String>::new());
    }
}
