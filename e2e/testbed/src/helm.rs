//! The real Helm, and the repository's chart.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::TestBed;
use crate::error::Result;
use crate::process::output;

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

impl TestBed {
    /// Helm, on this bed with all rights.
    pub fn helm(&self) -> Helm {
        Helm::new(self.parts(), self.kubeconfig())
    }
}
