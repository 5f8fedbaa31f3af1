//! `kthena-bridge run`: the operator.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use kthena_bridge_controller::{self as controller, Configuration, LeaderElection, Options};
use tokio::signal::unix::{SignalKind, signal};

use crate::config;
use crate::log::{self, LogFormat};

/// Arguments of `run`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The operator's configuration file.
    #[arg(long, env = "KTHENA_BRIDGE_CONFIG")]
    config: Option<PathBuf>,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, default_value = "0.0.0.0:8080", env = "KTHENA_BRIDGE_LISTEN")]
    listen: SocketAddr,
    /// How many Models are reconciled at the same time [default: the configuration's, 16]
    #[arg(long, env = "KTHENA_BRIDGE_CONCURRENCY")]
    concurrency: Option<NonZeroU16>,
    /// Hold a Lease while working, so that several operators can be run: one works, and the others wait.
    #[arg(long, env = "KTHENA_BRIDGE_LEADER_ELECT")]
    leader_elect: bool,
    /// The form of the log [default: the configuration's, text]
    #[arg(long, value_enum, env = "KTHENA_BRIDGE_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or a list of target=level [default: the
    /// configuration's, info]
    #[arg(long, env = "KTHENA_BRIDGE_LOG")]
    log: Option<String>,
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("--log {0:?}: {1}; give error, warn, info, debug or trace")]
    Log(String, tracing_subscriber::filter::ParseError),
    #[error("there is no cluster: {0}; run it in a Pod, or set KUBECONFIG to a kubeconfig file")]
    Cluster(kube::config::InferConfigError),
    #[error("waiting for signals: {0}")]
    Signal(std::io::Error),
    #[error(transparent)]
    Run(#[from] controller::Error),
}

/// Runs the operator until SIGTERM or SIGINT.
#[tokio::main]
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let config = config::read(arguments.config.as_deref())?;
    let level = arguments
        .log
        .as_deref()
        .unwrap_or(config.log_level.as_str());
    let format = arguments.log_format.unwrap_or(config.log_format.into());
    let filter = log::start(level, format).map_err(|e| Error::Log(level.to_owned(), e))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop; what is under way is finished");
    };
    let cluster = kube::Config::infer().await.map_err(Error::Cluster)?;
    let leader_election = arguments.leader_elect.then(|| LeaderElection {
        namespace: cluster.default_namespace.clone(),
        name: config::NAME.to_owned(),
        identity: identity(),
    });
    let concurrency = arguments.concurrency.unwrap_or(config.concurrency).get();
    let configuration = Configuration::new(Arc::new(config));
    if arguments.log.is_none() {
        tokio::spawn(log::follow(configuration.subscribe(), filter));
    }
    let options = Options {
        configuration,
        file: arguments.config.clone(),
        listen: arguments.listen,
        concurrency,
        leader_election,
    };
    Ok(Box::pin(controller::run(cluster, options, stop)).await?)
}

/// A name that no other operator has at the same time. A container that is started again in its Pod has the
/// same, and goes on with the Lease at once.
fn identity() -> String {
    std::env::var("POD_NAME").unwrap_or_else(|_| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}-{}", host.trim(), std::process::id())
    })
}
