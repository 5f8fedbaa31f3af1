//! A kubelet that runs each container of each pod as a local process. For the end-to-end tests: it must
//! run inside `e2e/sandbox`, as root of a user namespace that holds a bridge for the pods.
//!
//! What a pod gets: a network namespace with an address of its own on the bridge; for each container a
//! process in its own mount, pid and uts namespace, with a root of its own, the command, arguments,
//! environment and volumes that the pod asks for, and the service account's token at its usual path. The
//! kubelet runs the probes, restarts what fails, and writes the pod's status.
//!
//! What differs from a real one, all of it on purpose:
//!
//! - It binds pending pods to its node itself, ignoring topology constraints, taints and resources.
//! - An image is a local binary, by the rules of [`ImageMap`]; one that no rule knows can't be pulled. The
//!   rest of a container's root is the host's `/usr`, `/bin`, `/lib*` and a view of its `/etc`.
//! - The user namespace has one uid, so `runAsUser`, `runAsNonRoot`, capabilities and seccomp profiles are
//!   not honoured; `readOnlyRootFilesystem` is.
//! - Init containers and lifecycle hooks are skipped; init containers are reported as done.
//! - No cluster DNS and no kube-proxy: `KUBERNETES_SERVICE_HOST` is the API server's own address.
//! - ConfigMap and Secret volumes stay as they were when the pod started; a hostPath is an emptyDir.
//! - Times are short: initial delays of probes are at most 1 s and a readiness probe runs each second until
//!   it first succeeds; the back-off of a crash loop ends at 10 s; the grace period at
//!   [`Config::max_grace`].

mod command;
mod config_maps;
mod container;
mod env;
mod images;
mod kubelet;
mod launch;
mod network;
mod node;
mod pod;
mod probe;
mod status;
mod volumes;

use std::path::{Path, PathBuf};

pub use images::{Arguments, ImageMap};
pub use kubelet::{Config, run};

/// What stops the kubelet from running at all. Trouble with a pod is reported in its status instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request to the API server failed.
    #[error("{what}: {source}")]
    Kube {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// A file could not be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program failed.
    #[error(transparent)]
    Command(#[from] command::Failed),
}

pub use command::Failed;

/// Where the output of a container goes, over all its restarts; `dir` is [`Config::dir`].
pub fn log_path(dir: &Path, namespace: &str, pod: &str, container: &str) -> PathBuf {
    dir.join("logs")
        .join(namespace)
        .join(pod)
        .join(format!("{container}.log"))
}

/// The log files of all containers that a namespace has had.
pub fn logs_of(dir: &Path, namespace: &str) -> Vec<PathBuf> {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect()
    };
    let mut logs: Vec<PathBuf> = entries(&dir.join("logs").join(namespace))
        .iter()
        .flat_map(|pod| entries(pod))
        .collect();
    logs.sort();
    logs
}
