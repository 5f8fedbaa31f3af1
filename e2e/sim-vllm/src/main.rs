//! A simulated vLLM server for the end-to-end tests: its HTTP API, its metrics and its probes,
//! without a model. It is started with vLLM's own command line.

mod args;
mod metrics;
mod openai;
mod server;
mod state;

use std::{net::SocketAddr, sync::Arc};

use args::{Args, Role};
use state::State;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let args = Args::parse(std::env::args().skip(1))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopped = async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
        }
    };
    if args.role == Role::Worker {
        tracing::info!("a worker, waiting to be stopped");
        stopped.await;
        return Ok(());
    }

    let listener = TcpListener::bind(SocketAddr::new(args.host, args.port)).await?;
    tracing::info!(address = %listener.local_addr()?, names = ?args.served_names, "listening");
    let state = Arc::new(State::new(
        own_name(),
        args.engine,
        args.model,
        args.served_names,
    ));
    axum::serve(listener, server::router(args.role, state))
        .with_graceful_shutdown(stopped)
        .await?;
    Ok(())
}

/// The pod's name, as Kthena gives it to its containers, or else that of the machine.
fn own_name() -> String {
    std::env::var("POD_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}
