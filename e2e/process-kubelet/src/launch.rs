//! One run of a container: its process, from start to end.

use std::{
    fs::OpenOptions,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use tokio::process::{Child, Command};

use crate::{command, env::Env, volumes::Mount};

/// Runs as pid 1 of the container, sets up its root, and becomes the container's process.
const SETUP: &str = include_str!("container.sh");
/// What container images set.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that a container's process is made from.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) network_namespace: String,
    /// An empty folder for the root to be mounted on.
    pub(crate) root: PathBuf,
    pub(crate) hostname: String,
    pub(crate) read_only_root: bool,
    pub(crate) working_dir: String,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) binary: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) env: Env,
    pub(crate) log: PathBuf,
}

/// A running container. Its process, and all that it has started, is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    handle: Handle,
}

/// Reaches into a running container.
#[derive(Clone)]
pub(crate) struct Handle {
    /// `unshare`, whose only child is pid 1 of the container and dies with it.
    pid: u32,
    env: Env,
}

/// How a container's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) exit_code: i32,
    pub(crate) signal: Option<i32>,
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        let signal = status.signal();
        // A shell's convention, which container runtimes share.
        let exit_code = status
            .code()
            .or(signal.map(|signal| 128 + signal))
            .unwrap_or(255);
        Self { exit_code, signal }
    }
}

impl Launch {
    pub(crate) fn start(self) -> std::io::Result<Process> {
        std::fs::create_dir_all(&self.root)?;
        if let Some(dir) = self.log.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mode = |read_only| if read_only { "ro" } else { "rw" };
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "nsenter"]);
        command.arg(format!("--net=/run/netns/{}", self.network_namespace));
        command.args([
            "--",
            "unshare",
            "--mount",
            "--pid",
            "--uts",
            "--fork",
            "--kill-child",
            "--",
        ]);
        command
            .args(["bash", "-c", SETUP, "container"])
            .arg(&self.root)
            .arg(&self.hostname);
        command
            .arg(mode(self.read_only_root))
            .arg(&self.working_dir);
        command
            .arg(self.env.get("PATH").unwrap_or(PATH))
            .arg(&self.binary);
        for mount in &self.mounts {
            command
                .arg(mode(mount.read_only))
                .arg(&mount.from)
                .arg(&mount.to);
        }
        command.arg("--").args(&self.arguments);
        command
            .env_clear()
            .envs(self.env.0.iter().map(|(name, value)| (name, value)));
        // Programs of the setup are found by the kubelet's own PATH.
        command.env("PATH", PATH);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let child = command.spawn()?;
        let pid = child.id().unwrap_or_default();
        Ok(Process {
            child,
            handle: Handle { pid, env: self.env },
        })
    }
}

impl Process {
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub(crate) async fn wait(&mut self) -> Ended {
        match self.child.wait().await {
            Ok(status) => status.into(),
            Err(_) => Ended {
                exit_code: 255,
                signal: None,
            },
        }
    }

    /// Asks the container's process to end.
    pub(crate) async fn terminate(&self) {
        if let Some(pid) = self.handle.init() {
            // A process that is already gone is what is wanted.
            let _ = command::run("sh", &["-c", "kill -TERM \"$0\"", &pid.to_string()], "").await;
        }
    }

    /// Ends the container: the kernel kills all processes of a pid namespace with its first one.
    pub(crate) async fn kill(&mut self) -> Ended {
        // An error means that it has ended already.
        let _ = self.child.start_kill();
        self.wait().await
    }
}

impl Handle {
    /// Runs a command inside the container.
    pub(crate) async fn exec(&self, words: &[String]) -> Result<(), String> {
        let pid = self.init().ok_or("the container is not running")?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={pid}"));
        command
            .args(["--mount", "--pid", "--net", "--uts", "--root", "--wd", "--"])
            .args(words);
        command
            .env_clear()
            .envs(self.env.0.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let status = command.status().await.map_err(|e| e.to_string())?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{}: {status}", words.join(" ")))
        }
    }

    /// Pid 1 of the container, seen from here; nothing before it is there or after it has ended.
    fn init(&self) -> Option<u32> {
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_an_exit_code() {
        assert_eq!(
            Ended::from(ExitStatus::from_raw(9)),
            Ended {
                exit_code: 137,
                signal: Some(9)
            }
        );
        assert_eq!(
            Ended::from(ExitStatus::from_raw(3 << 8)),
            Ended {
                exit_code: 3,
                signal: None
            }
        );
    }
}
