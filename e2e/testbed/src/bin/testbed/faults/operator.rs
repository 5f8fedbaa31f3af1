//! The operator of one plan: a process behind a proxy, confined to a namespace and to its rights there, killed and started again as
//! the plan says.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fault_proxy::Proxy;
use serde_json::{Value, json};
use testbed::{Error, Result, TestBed};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::identity;

/// How long it may take to end when it is told to.
const STOP: Duration = Duration::from_secs(15);

/// What became of the process so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// When the plan had it killed.
    pub(crate) killed: Vec<Instant>,
    /// When it was started.
    pub(crate) started: Vec<Instant>,
    /// The process that was started last.
    pub(crate) pid: Option<u32>,
    /// Why it ended although nobody ended it.
    pub(crate) ended: Option<String>,
}

/// A process behind a proxy. It ends when this is dropped.
pub(crate) struct Operator {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) log: PathBuf,
    upgrades: mpsc::Sender<(Value, oneshot::Sender<()>)>,
    /// What it is configured with beside what each is.
    more: Mutex<Value>,
    fate: watch::Receiver<Fate>,
    supervisor: JoinHandle<()>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Operator {
    /// Starts `binary` with more `arguments` for the Models of one namespace, whose Gateway is called `gateway`.
    pub(crate) async fn start(
        bed: &TestBed,
        binary: &Path,
        namespace: &str,
        gateway: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        // There may be several for a namespace.
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let failed =
            |what: &str, error: &dyn std::fmt::Display| Error::Other(format!("{what}: {error}"));
        let proxy = Proxy::start(bed.client_of(identity::user(namespace))?)
            .await
            .map_err(|e| failed("starting a proxy", &e))?;
        let proxy = Arc::new(proxy);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = bed.dir().join("faults").join(number.to_string());
        std::fs::create_dir_all(&dir).map_err(|e| failed("making a folder", &e))?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": proxy.url()}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody", "namespace": namespace}}],
        });
        let process = Process {
            binary: binary.to_owned(),
            arguments: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
            kubeconfig: dir.join("kubeconfig"),
            config: dir.join("config.yaml"),
            log: dir.join("operator.log"),
            base: json!({
                "namespaces": [namespace],
                "gateways": [{"namespace": namespace, "name": gateway, "provider": "istio"}],
            }),
        };
        std::fs::write(&process.kubeconfig, kubeconfig.to_string())
            .map_err(|e| failed("writing a kubeconfig", &e))?;
        process.configure(&Value::Null)?;
        let log = process.log.clone();
        let (upgrades, asked) = mpsc::channel(1);
        let (told, fate) = watch::channel(Fate::default());
        let first = process.spawn(&told)?;
        let supervisor = tokio::spawn(supervise(process, first, Arc::clone(&proxy), asked, told));
        Ok(Self {
            proxy,
            log,
            upgrades,
            more: Mutex::default(),
            fate,
            supervisor,
        })
    }

    /// Ends it, and starts it with more configuration: as a newer version, whose defaults differ, would be.
    pub(crate) async fn upgrade(&self, more: Value) -> Result<()> {
        let (done, upgraded) = oneshot::channel();
        self.more
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&more);
        let ended = |_| Error::Other("the operator is not supervised any more".to_owned());
        self.upgrades
            .send((more, done))
            .await
            .map_err(|e| ended(e.to_string()))?;
        upgraded.await.map_err(|e| ended(e.to_string()))
    }

    /// Ends it, and starts it as it was.
    pub(crate) async fn start_anew(&self) -> Result<()> {
        let more = self
            .more
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.upgrade(more).await
    }

    /// Sends the process a signal.
    pub(crate) async fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.fate().pid;
        send(
            signal,
            pid.ok_or_else(|| Error::Other("the operator does not run".to_owned()))?,
        )
        .await
    }

    /// What became of the process so far.
    pub(crate) fn fate(&self) -> Fate {
        self.fate.borrow().clone()
    }
}

struct Process {
    binary: PathBuf,
    arguments: Vec<String>,
    kubeconfig: PathBuf,
    config: PathBuf,
    log: PathBuf,
    base: Value,
}

impl Process {
    fn configure(&self, more: &Value) -> Result<()> {
        let mut config = self.base.clone();
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let write = std::fs::write(&self.config, config.to_string());
        write.map_err(|e| Error::Other(format!("writing {}: {e}", self.config.display())))
    }

    fn spawn(&self, fate: &watch::Sender<Fate>) -> Result<Child> {
        fate.send_modify(|fate| fate.started.push(Instant::now()));
        let failed =
            |e: std::io::Error| Error::Other(format!("starting {}: {e}", self.binary.display()));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(failed)?;
        let same_log = log.try_clone().map_err(failed)?;
        let mut command = Command::new(&self.binary);
        command
            .args(["run", "--listen", "127.0.0.1:0", "--config"])
            .arg(&self.config)
            .args(&self.arguments);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(same_log);
        let child = command.kill_on_drop(true).spawn().map_err(failed)?;
        fate.send_modify(|fate| fate.pid = child.id());
        Ok(child)
    }
}

async fn supervise(
    process: Process,
    mut child: Child,
    proxy: Arc<Proxy>,
    mut upgrades: mpsc::Receiver<(Value, oneshot::Sender<()>)>,
    fate: watch::Sender<Fate>,
) {
    loop {
        let restarted = tokio::select! {
            () = proxy.crashed() => kill(&process, &mut child, &proxy, &fate).await,
            status = child.wait() => {
                fate.send_modify(|fate| fate.ended = Some(format!("{status:?}")));
                return;
            }
            Some((more, done)) = upgrades.recv() => {
                let restarted = restart(&process, &mut child, &proxy, &fate, &more).await;
                // It fails when nobody waits for it any more.
                let _ = done.send(());
                restarted
            }
        };
        match restarted {
            Ok(next) => {
                child = next;
            }
            Err(error) => {
                fate.send_modify(|fate| fate.ended = Some(error.to_string()));
                return;
            }
        }
    }
}

async fn kill(
    process: &Process,
    child: &mut Child,
    proxy: &Proxy,
    fate: &watch::Sender<Fate>,
) -> Result<Child> {
    // It fails when it has ended already, which is as well.
    let _ = child.kill().await;
    // Before it is passed on again: nobody may take the one that was killed for the one that comes.
    fate.send_modify(|fate| {
        fate.killed.push(Instant::now());
        fate.started.push(Instant::now());
    });
    proxy.reopen();
    process.spawn(fate)
}

/// Has it end in its own time, and starts the next one.
async fn restart(
    process: &Process,
    child: &mut Child,
    proxy: &Proxy,
    fate: &watch::Sender<Fate>,
    more: &Value,
) -> Result<Child> {
    process.configure(more)?;
    if let Some(pid) = child.id() {
        send("TERM", pid).await?;
    }
    tokio::select! {
        _ = child.wait() => process.spawn(fate),
        () = proxy.crashed() => kill(process, child, proxy, fate).await,
        () = tokio::time::sleep(STOP) => Err(Error::Other(format!("it has not ended within {STOP:?} of SIGTERM"))),
    }
}

async fn send(signal: &str, pid: u32) -> Result<()> {
    let mut kill = Command::new("kill");
    kill.args([format!("-{signal}"), pid.to_string()]);
    match kill.status().await {
        Ok(status) if status.success() => Ok(()),
        other => Err(Error::Other(format!("kill -{signal} {pid}: {other:?}"))),
    }
}
