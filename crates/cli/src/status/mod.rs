//! `kthena-bridge status`: what is exposed, where it answers and how it fares.

mod row;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kthena_bridge_api::annotation;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::condition::ConditionType;
use kthena_bridge_core::Source;

use crate::cluster::{self, Access, Cluster, duration};
use crate::config;
use crate::observe::{self, Looked, Named, PodIndex, Seen, observe};
use crate::output::{self, Document};
use row::{Operator, Row, Rows};

/// Arguments of `status`.
#[derive(Args)]
#[command(after_long_help = "\
Output:
  ADDRESS is the base URL that clients of the OpenAI API are given. READY counts the pods that the Model's
  InferencePool selects: those that are ready and may serve its port, of all. A condition that is not True is
  shown with its reason.

  -o json and -o yaml print {models: [...]}, of each: kind, namespace, name, target, created, gateways
  ([namespace/name[:listener]]), addresses ([{url, address, port, headers}]), endpoints ({ready,
  total}), modelNames, endpointPicker ({service, managed, ready}), conditions ([{type, status, reason, message,
  observedGeneration, lastTransitionTime}]). What is not known is left out. Fields may be added, and none is
  renamed.

Exit codes:
  0  the Models are shown; with --wait, each has the condition
  1  a Model that is named does not exist or is not exposed; with --wait, the time is over
  2  the arguments or the cluster's access are wrong, or the cluster does not answer")]
pub(crate) struct Arguments {
    /// Models or, as modelexposure/NAME, ModelExposures; else all that are exposed.
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// The namespace; else that of the kubeconfig's context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "models"])]
    all_namespaces: bool,
    /// The form of the output; else a table.
    #[arg(short, long, value_enum)]
    output: Option<Form>,
    /// Wait until each Model has this condition: Programmed where none is named.
    #[arg(long, value_name = "CONDITION", num_args = 0..=1, require_equals = true, default_missing_value = "Programmed", value_parser = condition_type)]
    wait: Option<ConditionType>,
    /// How long to wait, such as 90s or 10m.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration, requires = "wait")]
    timeout: Duration,
    /// The operator's configuration file, for -o wide, json and yaml; else its ConfigMap in the cluster is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
}

/// The form of the output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A table with more columns.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Why there is no status.
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

/// The Models that a command speaks of.
#[derive(Clone, Debug)]
struct Selection {
    /// Nothing: all of them.
    namespace: Option<String>,
    /// Empty: all that are exposed.
    names: Vec<String>,
}

impl Selection {
    /// Those that are exposed, and what is wrong with those that are named.
    fn select(&self, sources: impl Iterator<Item = Source> + Clone) -> (Vec<Source>, Vec<String>) {
        if self.names.is_empty() {
            return (sources.filter(Source::is_exposed).collect(), Vec::new());
        }
        let namespace = self.namespace.as_deref().unwrap_or_default();
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for name in &self.names {
            match Named::of(name).find(namespace, sources.clone()) {
                Some(source) if source.is_exposed() => found.push(source),
                Some(source) => wrong.push(format!(
                    "{} is not exposed; annotate it with {}=true, or see kubectl get modelexposures",
                    source.owner(),
                    annotation::EXPOSE
                )),
                None => wrong.push(format!(
                    "{} does not exist; see kubectl get modelboosters,modelexposures --namespace {namespace}",
                    Named::of(name).called(namespace)
                )),
            }
        }
        (found, wrong)
    }
}

/// Prints the status of Models.
#[tokio::main]
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let cluster = arguments.access.cluster().await?;
    let own = || {
        arguments
            .namespace
            .clone()
            .unwrap_or(cluster.namespace.clone())
    };
    let selection = Selection {
        namespace: (!arguments.all_namespaces).then(own),
        names: arguments.models.clone(),
    };
    let mut wrong = match arguments.wait {
        Some(condition) => {
            wait::wait(&cluster.client, &selection, condition, arguments.timeout).await?
        }
        None => Vec::new(),
    };
    let (seen, operator) = Box::pin(look(arguments, &cluster, &selection)).await?;
    let (models, not_there) = selection.select(seen.sources());
    if arguments.wait.is_none() {
        wrong = not_there;
    }
    let pods = PodIndex::new(&seen.objects);
    let rows = Rows {
        models: models
            .iter()
            .map(|model| Row::of(model, &seen, &pods, operator.as_ref()))
            .collect(),
    };
    let now = Timestamp::now();
    let text = match arguments.output {
        None | Some(Form::Wide) if rows.models.is_empty() => {
            if wrong.is_empty() {
                let within = selection.namespace.as_ref();
                let within = within.map_or(String::new(), |n| format!(" in namespace {n}"));
                anstream::eprintln!(
                    "No exposed Models found{within}; annotate one with {}=true, or make a ModelExposure",
                    annotation::EXPOSE
                );
            }
            String::new()
        }
        None => rows.table(arguments.all_namespaces, false, now),
        Some(Form::Wide) => rows.table(arguments.all_namespaces, true, now),
        Some(Form::Json) => output::document(&rows, Document::Json)?,
        Some(Form::Yaml) => output::document(&rows, Document::Yaml)?,
    };
    output::print(&text)?;
    for problem in &wrong {
        anstream::eprintln!("error: {problem}");
    }
    Ok(if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the rows are made of; what the operator decides by where they show that.
async fn look(
    arguments: &Arguments,
    cluster: &Cluster,
    selection: &Selection,
) -> Result<(Seen, Option<Operator>), Error> {
    let wide = arguments.output.is_some();
    let looked = Looked {
        children: if wide {
            &[
                ChildKind::InferencePool,
                ChildKind::Deployment,
                ChildKind::HTTPRoute,
            ]
        } else {
            &[ChildKind::InferencePool, ChildKind::HTTPRoute]
        },
        decisions: wide,
        whole: false,
    };
    let seen = observe(&cluster.client, selection.namespace.as_deref(), looked);
    if !wide {
        return Ok((seen.await?, None));
    }
    let config = config::read_or_ask(arguments.config.as_deref(), &cluster.client);
    let (seen, config) = futures::join!(seen, config);
    let (seen, config) = (seen?, config?);
    let objects = seen.of_operator(&config);
    Ok((seen, Some(Operator { config, objects })))
}

fn condition_type(text: &str) -> Result<ConditionType, String> {
    let is = |t: &ConditionType| t.as_str().eq_ignore_ascii_case(text);
    ConditionType::ALL.into_iter().find(is).ok_or_else(|| {
        let names = ConditionType::ALL.map(ConditionType::as_str);
        format!(
            "there is no such condition; give one of {}",
            names.join(", ")
        )
    })
}
