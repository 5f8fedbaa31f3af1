//! The operator's log.

use std::sync::Arc;

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use kthena_bridge_core::{Config, config};
use tokio::sync::watch;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// The form of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl From<config::LogFormat> for LogFormat {
    fn from(format: config::LogFormat) -> Self {
        match format {
            config::LogFormat::Text => Self::Text,
            config::LogFormat::Json => Self::Json,
        }
    }
}

/// What is logged, which may change.
pub(crate) type Filter = reload::Handle<EnvFilter, Registry>;

/// Begins to log to standard error; with colours on a terminal where NO_COLOR is not set.
/// <https://no-color.org>
///
/// # Errors
/// When `level` is no level, and no list of target=level.
pub(crate) fn start(level: &str, format: LogFormat) -> Result<Filter, ParseError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(level)?);
    // By itself, the layer colours what goes to a file or a container's log, too.
    let coloured = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(coloured);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    Ok(handle)
}

/// Logs what the configuration says, each time that it changes.
pub(crate) async fn follow(mut configuration: watch::Receiver<Arc<Config>>, filter: Filter) {
    while configuration.changed().await.is_ok() {
        let level = configuration.borrow_and_update().log_level.clone();
        let taken_over = EnvFilter::try_new(level.as_str())
            .map_err(|e| e.to_string())
            .and_then(|new| filter.reload(new).map_err(|e| e.to_string()));
        if let Err(problem) = taken_over {
            tracing::error!(%level, %problem, "field logLevel: the level before it stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_level_that_changes_is_taken_over() {
        let (filter, handle) = reload::Layer::new(EnvFilter::new("info"));
        let _here = tracing_subscriber::registry().with(filter).set_default();
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        let configuration = watch::Sender::new(Arc::new(Config::default()));
        tokio::spawn(follow(configuration.subscribe(), handle));
        let changed = Config::parse("logLevel: debug").unwrap();
        configuration.send_replace(Arc::new(changed));
        let taken_over = async {
            while !tracing::enabled!(tracing::Level::DEBUG) {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(10);
        assert!(tokio::time::timeout(limit, taken_over).await.is_ok());
    }
}
