//! `kthena-bridge render`: the plan of the operator, offline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::builder::PossibleValuesParser;
use kthena_bridge_api::annotation;
use kthena_bridge_api::kthena::{ModelBooster, ModelBoosterSpec};
use kthena_bridge_core::exposure::{GatewayRef, InvalidSettings};
use kthena_bridge_core::observe::Objects;
use kthena_bridge_core::provider::{self, Provider};
use kthena_bridge_core::topology::NotAccepted;
use kthena_bridge_core::{Ask, Config, Exposure, Source, Target, Topology, holder, plan};

use crate::desired::assume_active;
use crate::input::{self, Input};
use crate::{config, output};

/// Arguments of `render`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// File with ModelBoosters or ModelExposures, and the Models, ModelServings and ModelServers that go with them;
    /// - is standard input.
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
    #[error("there is no ModelBooster and no ModelExposure in {0}")]
    NoModel(String),
    #[error("{0}: the Model is not exposed; give --gateway, or annotate it with {expose}: \"true\"", expose = annotation::EXPOSE)]
    NotExposed(String),
    #[error("{0}: no Gateway is named; give --gateway, or set {1}")]
    NoGateway(String, String),
    #[error("{0}: {1}")]
    Settings(String, InvalidSettings),
    #[error("{0}: {1}")]
    NotAccepted(String, NotAccepted),
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
    if input.sources.is_empty() {
        return Err(Error::NoModel(arguments.filename.join(", ")));
    }
    let gateway = arguments.gateway.as_deref();
    let mut yaml = String::new();
    for (at, source) in &input.sources {
        if is_exposed_by_another(source, &input.objects) {
            continue;
        }
        let owner = source.owner();
        let source = exposed(source, gateway);
        let (mut exposure, target) = match Ask::of(&source, &config, &input.objects) {
            Ask::Exposure(exposure, target) => (exposure, target),
            Ask::Nothing | Ask::Wait => return Err(Error::NotExposed(at.clone())),
            Ask::Invalid(invalid, _) => return Err(Error::Settings(at.clone(), invalid)),
            Ask::Refused(refused) => return Err(Error::NotAccepted(at.clone(), refused)),
        };
        if let (Source::Object(_), Some(gateway)) = (&source, gateway) {
            exposure.gateways = gateways(gateway, &owner.namespace)
                .map_err(|invalid| Error::Settings(at.clone(), invalid))?;
        }
        if exposure.gateways.is_empty() {
            let setting = owner.setting(annotation::GATEWAY);
            return Err(Error::NoGateway(at.clone(), setting));
        }
        let topology = Topology::offline(&exposure, &owner, &target, &input.objects, provider)
            .map_err(|e| Error::NotAccepted(at.clone(), e))?;
        if owner.uid.is_empty() {
            eprintln!(
                "note: {at}: the {} has no metadata.uid, so the objects have no owner references",
                owner.kind.called()
            );
        }
        for desired in plan::build(&exposure, &topology, &config, &input.objects).objects {
            yaml.push_str("---\n");
            yaml.push_str(&serde_yaml::to_string(&desired.object)?);
        }
    }
    Ok(yaml)
}

/// Whether it is a Model that asks for nothing itself, and a ModelExposure of the files does.
fn is_exposed_by_another(source: &Source, objects: &Objects) -> bool {
    let Source::Model(model) = source else {
        return false;
    };
    let target = Target::Booster(Arc::clone(model));
    !source.is_exposed() && !holder::exposures(&target, objects).is_empty()
}

/// The source with what `--gateway` implies, and as if Kthena had begun with it.
fn exposed(source: &Source, gateway: Option<&str>) -> Source {
    let Source::Model(model) = source else {
        return source.clone();
    };
    let mut model = ModelBooster::clone(model);
    if let Some(gateway) = gateway {
        model.metadata.annotations = Some(annotated(&model, gateway));
    }
    assume_active(&mut model);
    model.into()
}

fn annotated(model: &ModelBooster, gateway: &str) -> BTreeMap<String, String> {
    let mut annotations = model.metadata.annotations.clone().unwrap_or_default();
    annotations.insert(annotation::EXPOSE.to_owned(), "true".to_owned());
    annotations.insert(annotation::GATEWAY.to_owned(), gateway.to_owned());
    annotations
}

/// Gateways as an annotation names them.
fn gateways(gateways: &str, namespace: &str) -> Result<Vec<GatewayRef>, InvalidSettings> {
    let annotations = annotated(
        &ModelBooster::new("", ModelBoosterSpec::default()),
        gateways,
    );
    let exposure = Exposure::parse(namespace, "", &annotations, &Config::default())?;
    Ok(exposure
        .map(|exposure| exposure.gateways)
        .unwrap_or_default())
}
