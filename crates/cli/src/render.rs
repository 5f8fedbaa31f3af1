//! `kthena-bridge render`: the plan of the operator, offline.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use kthena_bridge_api::annotation;
use kthena_bridge_core::exposure::InvalidAnnotations;
use kthena_bridge_core::provider::{self, Provider};
use kthena_bridge_core::topology::NotAccepted;
use kthena_bridge_core::{Exposure, Topology, plan};

use crate::input::{self, Input};
use crate::{config, output};

/// Arguments of `render`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// File with a ModelBooster, and its ModelServing and ModelServer if they are at hand; - is standard input.
    #[arg(short = 'f', long = "filename", required = true)]
    filename: Vec<String>,
    /// Gateways to attach to, separated by commas. Implies exposing.
    #[arg(long, value_name = "[NAMESPACE/]NAME[:LISTENER]")]
    gateway: Option<String>,
    /// The implementation of the Gateways.
    #[arg(long, default_value = provider::GENERIC.name, value_parser = PossibleValuesParser::new(provider::ALL.map(|p| p.name)))]
    provider: String,
    /// The namespace of objects that name none.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The operator's configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Why nothing is rendered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Input(#[from] input::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("there is no ModelBooster in {0}")]
    NoModel(String),
    #[error("{0}: the Model is not exposed; give --gateway, or annotate it with {expose}: \"true\"", expose = annotation::EXPOSE)]
    NotExposed(String),
    #[error("{0}: no Gateway is named; give --gateway, or annotate the Model with {gateway}", gateway = annotation::GATEWAY)]
    NoGateway(String),
    #[error("{0}: {1}")]
    Annotations(String, InvalidAnnotations),
    #[error("{0}: {1}")]
    Topology(String, NotAccepted),
    #[error(transparent)]
    Output(#[from] output::Error),
    #[error("writing YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
}

/// Prints the objects of every Model, or nothing at all.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    Ok(output::print(&render(arguments)?)?)
}

fn render(arguments: &Arguments) -> Result<String, Error> {
    let config = config::read(arguments.config.as_deref())?;
    let provider = Provider::named(&arguments.provider).unwrap_or(&provider::GENERIC);
    let input = Input::read(&arguments.filename, &arguments.namespace)?;
    if input.models.is_empty() {
        return Err(Error::NoModel(arguments.filename.join(", ")));
    }
    let mut yaml = String::new();
    for (at, model) in &input.models {
        let mut annotations = model.metadata.annotations.clone().unwrap_or_default();
        if let Some(gateway) = &arguments.gateway {
            annotations.insert(annotation::EXPOSE.to_owned(), "true".to_owned());
            annotations.insert(annotation::GATEWAY.to_owned(), gateway.clone());
        }
        let of = |field: &Option<String>| field.clone().unwrap_or_default();
        let (namespace, name) = (of(&model.metadata.namespace), of(&model.metadata.name));
        let exposure = Exposure::parse(&namespace, &name, &annotations, &config)
            .map_err(|e| Error::Annotations(at.clone(), e))?
            .ok_or_else(|| Error::NotExposed(at.clone()))?;
        if exposure.gateways.is_empty() {
            return Err(Error::NoGateway(at.clone()));
        }
        let topology = Topology::offline(&exposure, model, &input.objects, provider)
            .map_err(|e| Error::Topology(at.clone(), e))?;
        if model.metadata.uid.is_none() {
            eprintln!(
                "note: {at}: the Model has no metadata.uid, so the objects have no owner references"
            );
        }
        for desired in plan::build(&exposure, &topology, &config, &input.objects).objects {
            yaml.push_str("---\n");
            yaml.push_str(&serde_yaml::to_string(&desired.object)?);
        }
    }
    Ok(yaml)
}
