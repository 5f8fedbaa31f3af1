//! The life of an exposure, step by step.

use kthena_bridge_core::OwnerKind;
use serde_json::{Value, json};
use testbed::{Result, exposed_by};

use super::case::{Case, GATEWAY};

/// What happens to a Model, or to its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// It is annotated.
    Create,
    /// Annotations change that other objects than the route are made from.
    Edit,
    /// Path and host name change.
    Rename,
    /// The operator is replaced by one whose endpoint pickers have another flag.
    Upgrade,
    /// And back.
    Downgrade,
    /// The annotation is taken off.
    Unannotate,
    /// It is put on again.
    Annotate,
    /// The Model is deleted, and made again at once under the same name.
    Replace,
    /// The Model is deleted.
    Delete,
    /// It is made again, annotated from the start.
    Recreate,
    /// All annotations are taken off, as they were in the beginning.
    Close,
}

/// What the life of an exposure is made of.
pub(crate) const LIFE: [Step; 11] = [
    Step::Create,
    Step::Edit,
    Step::Rename,
    Step::Upgrade,
    Step::Downgrade,
    Step::Unannotate,
    Step::Annotate,
    Step::Replace,
    Step::Delete,
    Step::Recreate,
    Step::Close,
];

const CREATED: [(&str, &str); 5] = [
    ("expose", "true"),
    ("gateway", GATEWAY),
    ("path", "/a"),
    ("hostnames", "a.example.com"),
    ("priority", "1"),
];
const EDITED: [(&str, &str); 2] = [("priority", "2"), ("request-timeout", "10s")];
const RENAMED: [(&str, &str); 2] = [("path", "/b"), ("hostnames", "b.example.com")];

impl Step {
    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Edit => "edit",
            Self::Rename => "rename",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Unannotate => "un-annotate",
            Self::Annotate => "annotate",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Recreate => "re-create",
            Self::Close => "close",
        }
    }

    /// Whether the Model is served when it is done; else nothing of it is left.
    pub(crate) fn serves(self) -> bool {
        !matches!(self, Self::Unannotate | Self::Delete | Self::Close)
    }

    /// Does it. What comes of it is waited for by [`Case::rest`].
    pub(crate) async fn take(self, case: &Case<'_>, model: &str) -> Result<()> {
        let name = model;
        let model = case.namespace.model_named(name)?;
        match self {
            Self::Create => model.annotate(&some(&CREATED)).await,
            Self::Edit => model.annotate(&some(&EDITED)).await,
            Self::Rename => model.annotate(&some(&RENAMED)).await,
            Self::Upgrade => {
                case.operator
                    .upgrade(json!({"endpointPicker": {"args": ["--v=3"]}}))
                    .await
            }
            Self::Downgrade => case.operator.upgrade(Value::Null).await,
            Self::Unannotate => model.annotate(&[("expose", None)]).await,
            Self::Annotate => model.annotate(&[("expose", Some("true"))]).await,
            Self::Replace => {
                model.delete().await?;
                create(case, name).await
            }
            Self::Delete => model.delete().await,
            Self::Recreate => create(case, name).await,
            Self::Close => {
                let all = CREATED.iter().chain(&EDITED).map(|(key, _)| (*key, None));
                model.annotate(&all.collect::<Vec<_>>()).await
            }
        }
    }
}

fn some<'a>(annotations: &[(&'a str, &'a str)]) -> Vec<(&'a str, Option<&'a str>)> {
    annotations
        .iter()
        .map(|(key, value)| (*key, Some(*value)))
        .collect()
}

/// Makes a Model that asks for all of it from the start.
async fn create(case: &Case<'_>, name: &str) -> Result<()> {
    let mut manifest = case.bed.example(name)?;
    let asked = [&CREATED[..], &EDITED, &RENAMED].concat();
    match exposed_by() {
        OwnerKind::ModelBooster => {
            for (key, value) in asked {
                manifest["metadata"]["annotations"][format!("kthena-bridge.io/{key}")] =
                    value.into();
            }
            case.namespace.model_from(&manifest).await.map(drop)
        }
        OwnerKind::ModelExposure => {
            let model = case.namespace.model_from(&manifest).await?;
            model.annotate(&some(&asked)).await
        }
    }
}
