//! What Argo CD and Flux say of an object, from the files that users take: the Lua of `config/argo-cd`, the
//! CEL expressions of `config/flux`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};
use testbed::documents;

use crate::read;

pub(crate) const MODEL_HEALTH: &str = "config/argo-cd/modelbooster-health.lua";
pub(crate) const EXPOSURE_HEALTH: &str = "config/argo-cd/modelexposure-health.lua";
pub(crate) const APPLICATION_HEALTH: &str = "config/argo-cd/application-health.lua";
pub(crate) const KUSTOMIZATIONS: &str = "config/flux/kustomizations.yaml";

/// How healthy a Model is, in Argo CD's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Healthy,
    Suspended,
    Progressing,
    Degraded,
}

impl Health {
    pub(crate) fn argo_cd(self) -> String {
        format!("{self:?}")
    }

    /// Flux knows no suspended objects: what rests as it should is current.
    pub(crate) fn flux(self) -> &'static str {
        match self {
            Self::Healthy | Self::Suspended => "Current",
            Self::Progressing => "InProgress",
            Self::Degraded => "Failed",
        }
    }
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: String,
    pub(crate) message: String,
    pub(crate) error: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verdict {
    #[serde(rename = "argoCD")]
    pub(crate) argo_cd: Said,
    pub(crate) flux: Said,
}

impl Verdict {
    /// An error that names both when one of them says anything else.
    pub(crate) fn is(&self, health: Health) -> Result<(), String> {
        let as_wanted = self.argo_cd.error.is_empty()
            && self.flux.error.is_empty()
            && self.argo_cd.status == health.argo_cd()
            && self.flux.status == health.flux();
        as_wanted
            .then_some(())
            .ok_or_else(|| format!("is not {health:?}: {self:#?}"))
    }
}

/// The expressions that the Kustomization of the Models has.
fn health_check_exprs() -> Value {
    let all = documents(&read(KUSTOMIZATIONS)).unwrap();
    let with: Vec<&Value> = all
        .iter()
        .map(|object| &object["spec"]["healthCheckExprs"])
        .filter(|exprs| exprs.is_array())
        .collect();
    assert_eq!(with.len(), 1, "one Kustomization has healthCheckExprs");
    with[0].clone()
}

/// What both say of Models.
pub(crate) fn models(objects: &[Value]) -> Vec<Verdict> {
    judge(MODEL_HEALTH, objects)
}

/// What a script says of objects, and Flux of the same.
pub(crate) fn judge(script: &str, objects: &[Value]) -> Vec<Verdict> {
    let question = json!({
        "lua": read(script),
        "healthCheckExprs": health_check_exprs(),
        "objects": objects,
    });
    let binary = testbed::parts().unwrap().join("bin/gitops-health");
    let mut child = Command::new(&binary)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // In a thread of its own: whoever reads what it says while it reads can't block it.
    let writer = std::thread::spawn(move || input.write_all(question.to_string().as_bytes()));
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {complaint}", binary.display());
    writer.join().unwrap().unwrap();
    let verdicts: Vec<Verdict> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdicts.len(), objects.len());
    verdicts
}
