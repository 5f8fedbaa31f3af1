//! The operator as a process with the rights of its ServiceAccount.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use testbed::{Error, Result, TestBed};
use tokio::process::{Child, Command};

use super::measure::Process;

/// Where it serves its health.
const LISTEN: &str = "127.0.0.1:18080";
/// How long it may take to end when it is told to.
const STOP: Duration = Duration::from_secs(30);

/// A running operator. It is killed when this is dropped.
pub(crate) struct Operator {
    child: Child,
    /// When it was started.
    pub(crate) started: Instant,
    /// It, as the kernel sees it.
    pub(crate) process: Process,
    log: PathBuf,
}

impl Operator {
    /// Starts it with the files that [`super::cluster::install`] wrote.
    pub(crate) fn start(binary: &Path, dir: &Path) -> Result<Self> {
        let failed =
            |e: std::io::Error| Error::Other(format!("starting {}: {e}", binary.display()));
        let log = dir.join("operator.log");
        let open = || {
            std::fs::File::options()
                .create(true)
                .append(true)
                .open(&log)
        };
        let (out, err) = (open().map_err(failed)?, open().map_err(failed)?);
        let mut command = Command::new(binary);
        command
            .args(["run", "--leader-elect", "--listen", LISTEN, "--config"])
            .arg(dir.join("config.yaml"))
            .env("KUBECONFIG", dir.join("kubeconfig"))
            .env("POD_NAME", "kthena-bridge-0")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .kill_on_drop(true);
        let started = Instant::now();
        let child = command.spawn().map_err(failed)?;
        let pid = child
            .id()
            .ok_or_else(|| Error::Other("the operator ended at once".to_owned()))?;
        Ok(Self {
            child,
            started,
            process: Process(pid),
            log,
        })
    }

    /// Waits until it says that it is ready, and tells how long after its start that is.
    pub(crate) async fn until_ready(&self, bed: &TestBed, limit: Duration) -> Result<Duration> {
        let url = format!("http://{LISTEN}/readyz");
        let end = self.started + limit;
        loop {
            let state = match bed.get(&url).await {
                Ok(answer) if answer.status == 200 => return Ok(self.started.elapsed()),
                Ok(answer) => answer.body,
                Err(error) => error,
            };
            if Instant::now() > end {
                return Err(Error::Other(format!(
                    "the operator is not ready within {limit:?}: {state}\n{}",
                    self.log()
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it counts of itself, in its text format.
    pub(crate) async fn metrics(&self, bed: &TestBed) -> Result<String> {
        let answer = bed.get(&format!("http://{LISTEN}/metrics")).await;
        Ok(answer.map_err(Error::Other)?.body)
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Tells it to end, and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let failed = |e: std::io::Error| Error::Other(format!("stopping the operator: {e}"));
        let told = Command::new("kill")
            .args(["-TERM", &self.process.0.to_string()])
            .status();
        told.await.map_err(failed)?;
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(ended) => ended.map(drop).map_err(failed),
            Err(_) => Err(Error::Other(format!(
                "the operator has not ended {STOP:?} after it was told to\n{}",
                self.log()
            ))),
        }
    }
}
