//! The test bed by hand: `e2e/sandbox target/debug/testbed up`.

mod bench;
mod demo;
mod faults;
mod scale;
mod truth;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testbed::{Options, TestBed};

#[derive(Parser)]
#[command(about = "The test bed of kthena-bridge")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything, say how to reach it, and wait for Ctrl-C or SIGTERM.
    Up,
    /// Expose a Model, send it requests, and take it back.
    Demo {
        /// Leave everything running until Ctrl-C or SIGTERM.
        #[arg(long)]
        keep: bool,
    },
    /// Measure how long it takes from the annotation to the HTTPRoute.
    Bench {
        /// How many Models.
        #[arg(long, default_value_t = 200)]
        models: usize,
        /// The operator that is measured.
        #[arg(long)]
        operator: PathBuf,
    },
    /// Measure what the operator takes, and how fast it is, with many Models.
    BenchScale(scale::Arguments),
    /// Let requests of the operator go wrong, one after the other over the whole life of an exposure, and look
    /// whether the end is the same.
    Faults(faults::Arguments),
    /// Break an exposure in every way there is, and compare what a client gets with what the Model's
    /// conditions say.
    Truth {
        /// Only the situations whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| "error,kube_client=off".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let outcome = match Cli::parse().command {
        Command::Up => up().await,
        Command::Demo { keep } => demo::run(keep).await,
        Command::Bench { models, operator } => bench::run(models, operator).await,
        Command::BenchScale(arguments) => match scale::run(&arguments).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Faults(arguments) => faults::run(&arguments).await,
        Command::Truth { only } => truth::run(&only).await,
    };
    if let Err(error) = outcome {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn up() -> testbed::Result<()> {
    let bed = TestBed::start(Options::default())?;
    let reach = format!("e2e/sandbox --join {}", bed.sandbox().pid);
    eprintln!(
        "The test bed is up after {:.1?}. From another terminal:",
        bed.took()
    );
    eprintln!(
        "  {reach} {} --kubeconfig {} get pods -A",
        bed.parts().join("bin/kubectl").display(),
        bed.kubeconfig().display()
    );
    eprintln!("  {reach} ls {}", bed.dir().join("logs").display());
    eprintln!("Ctrl-C ends it and leaves nothing.");
    bed.until_stopped().await
}
