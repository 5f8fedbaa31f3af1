//! `testbed bench-scale`: what the operator takes, and how fast it is, with many Models.
//!
//! Each number of Models has a bed of its own, in a process of its own: nothing of one is left when the next is
//! measured. Kthena's part is copied from what it did for one Model; the gateway's and the deployment
//! controller's are played by a stand-in, which writes the same statuses.

mod cluster;
mod figure;
mod floor;
mod measure;
mod operator;
mod size;
mod stamp;
mod stand_in;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::{Error, Result};
use tokio::process::Command;

use figure::{Figure, growth, table};
use size::Measured;

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The operator that is measured.
    #[arg(long)]
    operator: PathBuf,
    /// How many Models, each number on a bed of its own.
    #[arg(long, value_delimiter = ',', default_value = "1000,5000,10000")]
    models: Vec<usize>,
    /// How many Models where the deployment controller makes pods.
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    objects: Vec<usize>,
    /// Over how many namespaces they are.
    #[arg(long, default_value_t = 50)]
    namespaces: usize,
    /// How the Models are exposed.
    #[arg(long, value_enum, default_value = "annotations")]
    by: By,
    /// How long nothing happens, in seconds.
    #[arg(long, value_parser = seconds, default_value = "60")]
    quiet: Duration,
    /// How long the operator is watched after it was started again, in seconds.
    #[arg(long, value_parser = seconds, default_value = "20")]
    after_restart: Duration,
    /// How often a Model is exposed during the cold start, in seconds.
    #[arg(long, value_parser = seconds, default_value = "0.5")]
    probe_every: Duration,
    /// How many Models are exposed one by one when all is quiet.
    #[arg(long, default_value_t = 100)]
    idle_probes: usize,
    /// How many Models have an annotation edited, twice.
    #[arg(long, default_value_t = 10)]
    edits: usize,
    /// How many objects are deleted.
    #[arg(long, default_value_t = 104)]
    repairs: usize,
    /// How many Models the raw floor is measured with at each concurrency; with 0 it is not.
    #[arg(long, default_value_t = 250)]
    floor_models: usize,
    /// The concurrencies at which the raw floor is measured.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64")]
    concurrency: Vec<usize>,
    /// How long a Model may take in a run, in seconds, beside a minute for all.
    #[arg(long, value_parser = seconds, default_value = "0.2")]
    per_model: Duration,
    /// Do not fail when a figure is not what it has to be.
    #[arg(long)]
    no_bars: bool,
    /// Measure one part, in this process, and print it as JSON: `all:1000`, `objects:100`.
    #[arg(long, hide = true)]
    part: Option<String>,
}

/// How Models are exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum By {
    /// By their annotations.
    Annotations,
    /// By a ModelExposure each.
    Objects,
}

impl By {
    /// How many objects say how a Model is exposed: the Model says what its ModelExposure says.
    fn told_on(self) -> f64 {
        match self {
            Self::Annotations => 1.0,
            Self::Objects => 2.0,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// Measures, prints a table and, in the last line, a JSON object. It fails when a figure is not what it has to be.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    size::check(&arguments.operator)?;
    if let Some(part) = &arguments.part {
        let measured = here(arguments, part).await?;
        print(&json!({"figures": measured.figures, "details": measured.details}).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let objects = arguments.objects.iter().map(|n| format!("objects:{n}"));
    let all = arguments.models.iter().map(|n| format!("all:{n}"));
    let mut figures: Vec<Figure> = Vec::new();
    let mut details = json!({});
    for part in objects.chain(all) {
        eprintln!("--- {part}, with a load of {}", measure::load());
        let (measured, detail) = elsewhere(&part).await?;
        eprint!("{}", table(&measured));
        figures.extend(measured);
        details[part] = detail;
    }
    let grown = growth(&figures);
    figures.extend(grown);
    let missed = figures.iter().filter(|f| f.holds() == Some(false)).count();
    print(&table(&figures))?;
    print(&json!({"figures": figures, "missed": missed, "details": details}).to_string())?;
    if missed == 0 || arguments.no_bars {
        Ok(ExitCode::SUCCESS)
    } else {
        eprintln!("{missed} figures are not what they have to be");
        Ok(ExitCode::FAILURE)
    }
}

/// Measures a part in this process.
async fn here(arguments: &Arguments, part: &str) -> Result<Measured> {
    let unknown = || Error::Other(format!("no such part: {part}"));
    let (what, models) = part.split_once(':').ok_or_else(unknown)?;
    let models = models.parse().map_err(|_| unknown())?;
    match what {
        "objects" => size::objects(arguments, models).await,
        "all" => Box::pin(size::all(arguments, models)).await,
        _ => Err(unknown()),
    }
}

/// Measures a part in a process of its own, with the same arguments.
async fn elsewhere(part: &str) -> Result<(Vec<Figure>, Value)> {
    let failed = |e: &dyn std::fmt::Display| Error::Other(format!("measuring {part}: {e}"));
    let program = std::env::current_exe().map_err(|e| failed(&e))?;
    let mut command = Command::new(program);
    command
        .args(std::env::args_os().skip(1))
        .args(["--part", part])
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().map_err(|e| failed(&e))?;
    let output = child.wait_with_output().await.map_err(|e| failed(&e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(failed(&output.status));
    }
    let last = text.lines().last().unwrap_or_default();
    let mut said: Value = serde_json::from_str(last).map_err(|e| failed(&e))?;
    let figures = serde_json::from_value(said["figures"].take()).map_err(|e| failed(&e))?;
    Ok((figures, said["details"].take()))
}

fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{}", text.trim_end())
        .map_err(|e| Error::Other(format!("printing: {e}")))
}
