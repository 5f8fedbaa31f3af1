//! The components: child processes and tasks. Each ends with the bed (also when the bed is killed), and is
//! missed when it ends early.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
};

use tokio::{
    process::Command,
    sync::{oneshot, watch},
};

use crate::error::{Context as _, Error, Result};

/// The running components and the folder of their logs.
pub(crate) struct Processes {
    logs: PathBuf,
    running: Mutex<Vec<Component>>,
}

struct Component {
    name: String,
    /// What there is to say of its end.
    ended: watch::Receiver<Option<String>>,
    /// Ends it; a task can't be ended by itself.
    stop: Option<oneshot::Sender<()>>,
}

impl Processes {
    pub(crate) fn new(logs: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&logs).context(|| format!("creating {}", logs.display()))?;
        Ok(Self {
            logs,
            running: Mutex::default(),
        })
    }

    /// Starts `binary` with its output in `NAME.log`.
    ///
    /// Must run on a thread that lives as long as the bed: the parent-death signal, which ends the
    /// child when a test binary is killed or simply returns from `main`, goes by thread.
    pub(crate) fn start(&self, name: &str, binary: &Path, args: &[String]) -> Result<()> {
        if !binary.exists() {
            let remedy =
                "KTHENA_BRIDGE_PARTS must name the folder that e2e/parts/fetch prints".to_owned();
            return Err(Error::Missing {
                path: binary.to_owned(),
                remedy,
            });
        }
        let path = self.log_of(name);
        let log =
            std::fs::File::create(&path).context(|| format!("creating {}", path.display()))?;
        let same_log = log
            .try_clone()
            .context(|| format!("opening {}", path.display()))?;
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(same_log)
            .kill_on_drop(true)
            .spawn()
            .context(|| format!("starting {name}"))?;
        let (stop, mut stopped) = oneshot::channel();
        let ended = async move {
            let status = tokio::select! {
                status = child.wait() => status,
                Ok(()) = &mut stopped => match child.start_kill() {
                    Ok(()) => child.wait().await,
                    Err(error) => Err(error),
                },
            };
            match status {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            }
        };
        self.watch(name, ended, Some(stop));
        Ok(())
    }

    /// Kills a component that is a process, and returns when it has ended. It is not missed from then on.
    pub(crate) async fn stop(&self, name: &str) -> Result<()> {
        let component = {
            let mut running = self.lock();
            let at = running.iter().position(|component| component.name == name);
            at.map(|at| running.remove(at))
        };
        let Some(Component {
            mut ended,
            stop: Some(stop),
            ..
        }) = component
        else {
            return Err(Error::Other(format!("no process {name} runs")));
        };
        // An error means that it has ended by itself, or that the bed is ending: so it is gone.
        let _ = stop.send(());
        let _ = ended.wait_for(Option::is_some).await;
        Ok(())
    }

    /// Runs a component that is a task.
    pub(crate) fn spawn<E: std::error::Error>(
        &self,
        name: &str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let ended = async {
            match task.await {
                Ok(()) => "it returned".to_owned(),
                Err(error) => chain(&error),
            }
        };
        self.watch(name, ended, None);
    }

    fn watch(
        &self,
        name: &str,
        ended: impl Future<Output = String> + Send + 'static,
        stop: Option<oneshot::Sender<()>>,
    ) {
        let (report, receiver) = watch::channel(None);
        tokio::spawn(async move { report.send_replace(Some(ended.await)) });
        self.lock().push(Component {
            name: name.to_owned(),
            ended: receiver,
            stop,
        });
    }

    /// Fails when a component has ended.
    pub(crate) fn check(&self) -> Result<()> {
        for component in self.lock().iter() {
            if let Some(said) = &*component.ended.borrow() {
                return Err(Error::Exited {
                    name: component.name.clone(),
                    status: said.clone(),
                    log: tail(&self.log_of(&component.name), 30),
                });
            }
        }
        Ok(())
    }

    /// The ends of all components' logs.
    pub(crate) fn tails(&self, lines: usize) -> String {
        let running = self.lock();
        let tails = running
            .iter()
            .map(|p| format!("--- {}\n{}\n", p.name, tail(&self.log_of(&p.name), lines)));
        tails.collect()
    }

    pub(crate) fn log_of(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Component>> {
        self.running
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What a program says that is run to its end; an error with what it complains of when it fails.
pub(crate) async fn output(command: &mut Command) -> Result<String> {
    let what = format!("{:?}", command.as_std());
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .context(|| what.clone())?;
    if !output.status.success() {
        // Tools that check something say what they found on their standard output.
        let problem = [output.stderr, output.stdout].concat();
        let problem = String::from_utf8_lossy(&problem);
        return Err(Error::Other(format!("{what}: {problem}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// The last lines of a file; empty when it can't be read.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
