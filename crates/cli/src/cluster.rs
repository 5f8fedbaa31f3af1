//! The cluster that a command talks to, as kubectl would find it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Which cluster, and as whom: what kubectl takes, under the same names.
#[derive(Args)]
pub(crate) struct Access {
    /// The kubeconfig file; else $KUBECONFIG, ~/.kube/config, or the Pod's own access.
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; else its current one.
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    context: Option<String>,
    /// How long the API server may be silent, such as 30s or 1m; 0s is for ever.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, help_heading = "Cluster")]
    server_timeout: Duration,
}

/// Reads a duration such as 90s or 10m.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text
        .parse()
        .map_err(|e| format!("{e}; give a duration such as 90s or 10m"))?;
    Duration::try_from(parsed).map_err(|_| "is negative; give a duration such as 90s".to_owned())
}

/// A cluster, and the namespace of what names none.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

/// Why there is no cluster to talk to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{file}: {source}; give a kubeconfig with --kubeconfig", file = .file.display())]
    File {
        file: PathBuf,
        source: kube::config::KubeconfigError,
    },
    #[error("the kubeconfig: {0}; choose one of its contexts with --context")]
    Context(kube::config::KubeconfigError),
    #[error("there is no cluster: {0}; give --kubeconfig, or set KUBECONFIG")]
    Infer(kube::config::InferConfigError),
    #[error("the cluster's client cannot be made: {0}")]
    Client(kube::Error),
}

impl Access {
    /// Reads the configuration. Nothing is sent yet.
    pub(crate) async fn cluster(&self) -> Result<Cluster, Error> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let mut config = match (&self.kubeconfig, &self.context) {
            (Some(file), _) => {
                let kubeconfig = Kubeconfig::read_from(file).map_err(|source| Error::File {
                    file: file.clone(),
                    source,
                })?;
                kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(Error::Context)?
            }
            (None, Some(_)) => kube::Config::from_kubeconfig(&options)
                .await
                .map_err(Error::Context)?,
            (None, None) => kube::Config::infer().await.map_err(Error::Infer)?,
        };
        let limit = Some(self.server_timeout).filter(|limit| !limit.is_zero());
        config.connect_timeout = limit;
        config.read_timeout = limit;
        // Else the time that a connection lay idle counts as the API server's.
        config.reset_reader_on_write = true;
        let namespace = config.default_namespace.clone();
        Ok(Cluster {
            client: Client::try_from(config).map_err(Error::Client)?,
            namespace,
        })
    }
}
