//! The real Helm, and the repository's chart.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::error::Result;
use crate::process::output;
use crate::{OPERATOR, TestBed};

/// The repository's chart.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/kthena-bridge")
}

/// Helm, with its own files out of the way of the user's.
pub struct Helm {
    binary: PathBuf,
    kubeconfig: PathBuf,
}

impl Helm {
    /// For what needs no cluster.
    pub fn without_cluster() -> Result<Self> {
        Ok(Self::new(&crate::parts()?, Path::new("/dev/null")))
    }

    fn new(parts: &Path, kubeconfig: &Path) -> Self {
        Self {
            binary: parts.join("bin/helm"),
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    /// Runs it and gives what it says; an error with what it complains of when it fails.
    pub async fn run(&self, args: &[&str]) -> Result<String> {
        let home = std::env::temp_dir().join("helm");
        let mut command = Command::new(&self.binary);
        command.args(args).env("KUBECONFIG", &self.kubeconfig);
        for (variable, folder) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            command.env(variable, home.join(folder));
        }
        output(&mut command).await
    }
}

/// The operator as a release of the chart.
pub struct Release {
    helm: Helm,
    chart: String,
    namespace: String,
}

impl Release {
    /// Arguments with which Helm waits until the operator is ready.
    pub const WAIT: [&str; 3] = ["--wait", "--timeout", "60s"];

    /// Runs `helm install` with more arguments.
    pub async fn install(&self, more: &[&str]) -> Result<String> {
        let install = ["install", OPERATOR, &self.chart, "--create-namespace"];
        self.run(&install, more).await
    }

    /// Runs `helm upgrade` with more arguments.
    pub async fn upgrade(&self, more: &[&str]) -> Result<String> {
        self.run(&["upgrade", OPERATOR, &self.chart], more).await
    }

    /// Runs `helm test` with more arguments.
    pub async fn test(&self, more: &[&str]) -> Result<String> {
        self.run(&["test", OPERATOR], more).await
    }

    /// Runs `helm uninstall` with more arguments.
    pub async fn uninstall(&self, more: &[&str]) -> Result<String> {
        self.run(&["uninstall", OPERATOR], more).await
    }

    async fn run(&self, args: &[&str], more: &[&str]) -> Result<String> {
        let namespace = ["--namespace", &self.namespace];
        self.helm.run(&[args, &namespace, more].concat()).await
    }
}

impl TestBed {
    /// The operator's release in a namespace, of a chart's folder or archive.
    pub fn release(&self, chart: &Path, namespace: &str) -> Release {
        Release {
            helm: self.helm(),
            chart: chart.display().to_string(),
            namespace: namespace.to_owned(),
        }
    }

    /// Helm, on this bed with all rights.
    pub fn helm(&self) -> Helm {
        Helm::new(self.parts(), self.kubeconfig())
    }
}
