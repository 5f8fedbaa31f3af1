//! How healthy an object is to Argo CD and to Flux, by the files that users take: the Lua of `config/argo-cd`, the CEL
//! expressions of `config/flux`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use kthena_bridge_core::OwnerKind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Context as _, Error, Result};
use crate::{document, documents, parts};

/// Argo CD's script for ModelBoosters.
pub const MODEL_HEALTH: &str = "config/argo-cd/modelbooster-health.lua";
/// Argo CD's script for ModelExposures.
pub const EXPOSURE_HEALTH: &str = "config/argo-cd/modelexposure-health.lua";
/// Argo CD's script for its own Applications.
pub const APPLICATION_HEALTH: &str = "config/argo-cd/application-health.lua";
/// Where Flux's expressions are.
pub const KUSTOMIZATIONS: &str = "config/flux/kustomizations.yaml";

/// How healthy an object is, in Argo CD's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does what it is to do.
    Healthy,
    /// It rests, as it is to.
    Suspended,
    /// It is on its way.
    Progressing,
    /// Somebody has to change something.
    Degraded,
}

impl Health {
    /// The word of Argo CD.
    pub fn argo_cd(self) -> String {
        format!("{self:?}")
    }

    /// The word of Flux, which knows no suspended objects: what rests as it should is current.
    pub fn flux(self) -> &'static str {
        match self {
            Self::Healthy | Self::Suspended => "Current",
            Self::Progressing => "InProgress",
            Self::Degraded => "Failed",
        }
    }
}

/// What one of them says.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Said {
    /// A word of it.
    pub status: String,
    /// Why, for a person.
    pub message: String,
    /// Why it could say nothing; else empty.
    pub error: String,
}

/// What both say.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Argo CD.
    #[serde(rename = "argoCD")]
    pub argo_cd: Said,
    /// Flux.
    pub flux: Said,
}

impl Verdict {
    /// An error that names both when one of them says anything else.
    pub fn is(&self, health: Health) -> Result<(), String> {
        let as_wanted = self.argo_cd.error.is_empty()
            && self.flux.error.is_empty()
            && self.argo_cd.status == health.argo_cd()
            && self.flux.status == health.flux();
        as_wanted
            .then_some(())
            .ok_or_else(|| format!("is not {health:?}: {self:#?}"))
    }
}

/// The script for what asks for exposures.
pub fn script_of(kind: OwnerKind) -> &'static str {
    match kind {
        OwnerKind::ModelBooster => MODEL_HEALTH,
        OwnerKind::ModelExposure => EXPOSURE_HEALTH,
    }
}

/// The expressions that the Kustomization of the Models has.
fn health_check_exprs() -> Result<Value> {
    let all = documents(&document::read(KUSTOMIZATIONS)?)?;
    let mut with: Vec<&Value> = all
        .iter()
        .map(|object| &object["spec"]["healthCheckExprs"])
        .filter(|exprs| exprs.is_array())
        .collect();
    match (with.pop(), with.is_empty()) {
        (Some(exprs), true) => Ok(exprs.clone()),
        _ => Err(Error::Other(format!(
            "{KUSTOMIZATIONS}: one Kustomization has to have healthCheckExprs"
        ))),
    }
}

/// What a script says of objects, and Flux of the same.
pub fn judge(script: &str, objects: &[Value]) -> Result<Vec<Verdict>> {
    let question = json!({
        "lua": document::read(script)?,
        "healthCheckExprs": health_check_exprs()?,
        "objects": objects,
    });
    let binary = parts()?.join("bin/gitops-health");
    let what = || format!("asking {} with {script}", binary.display());
    let mut child = Command::new(&binary)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(what)?;
    // In a thread of its own: whoever reads what it says while it reads can't block it.
    let input = child.stdin.take();
    let writer = std::thread::spawn(move || match input {
        Some(mut input) => input.write_all(question.to_string().as_bytes()),
        None => Ok(()),
    });
    let output = child.wait_with_output().context(what)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Other(format!("{}: {complaint}", what())));
    }
    let written = writer.join();
    written
        .unwrap_or_else(|_| Err(std::io::Error::other("writing panicked")))
        .context(what)?;
    let verdicts: Vec<Verdict> = serde_json::from_slice(&output.stdout)
        .map_err(|e| Error::Other(format!("{}: {e}", what())))?;
    if verdicts.len() != objects.len() {
        let count = verdicts.len();
        return Err(Error::Other(format!(
            "{}: {count} verdicts on {} objects",
            what(),
            objects.len()
        )));
    }
    Ok(verdicts)
}
