//! The operator's configuration, which may change while it runs.
//!
//! The file is read again every few seconds, and compared. In a cluster it is a link in a volume that the
//! kubelet points elsewhere, about once a minute; to be told of that, the links on the way and their folders
//! would have to be watched, for a gain of two seconds.
//! <https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically>

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kthena_bridge_core::Config;
use tokio::sync::watch;

use crate::metrics::Metrics;

const EVERY: Duration = Duration::from_secs(2);

/// The configuration as it is now, and those who are told when it changes.
pub type Configuration = watch::Sender<Arc<Config>>;

/// Takes over what the file says, each time that it says something else. Never ends.
pub(crate) async fn follow(file: &Path, configuration: &Configuration, metrics: &Metrics) {
    let started = Arc::clone(&configuration.borrow());
    let mut last = Config::clone(&started);
    // What could not be used, so that it is told once.
    let mut refused = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let text = tokio::fs::read_to_string(file).await;
        let read = text
            .map_err(|e| e.to_string())
            .and_then(|text| Config::parse(&text).map_err(|e| e.to_string()));
        match read {
            Ok(config) => {
                if refused.take().is_some() || config != last {
                    metrics.configuration_read(true);
                    last.clone_from(&config);
                    take_over(config, &started, configuration, file);
                }
            }
            Err(problem) => {
                if refused.as_ref() != Some(&problem) {
                    metrics.configuration_read(false);
                    tracing::error!(
                        file = %file.display(),
                        %problem,
                        "the configuration cannot be used; the one before it stays"
                    );
                    refused = Some(problem);
                }
            }
        }
    }
}

fn take_over(mut config: Config, started: &Config, configuration: &Configuration, file: &Path) {
    let restart = config.keep_from_start(started);
    if !restart.is_empty() {
        tracing::warn!(
            fields = restart.join(","),
            "these fields are looked at when the operator starts: they stay as they are until it is restarted"
        );
    }
    let changed = configuration.send_if_modified(|current| {
        let differs = **current != config;
        if differs {
            *current = Arc::new(config);
        }
        differs
    });
    tracing::info!(file = %file.display(), changed, "the configuration was read again");
}
