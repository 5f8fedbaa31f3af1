//! Conditions, whose `lastTransitionTime` stays until their status changes.

use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) struct Condition {
    pub(super) kind: &'static str,
    pub(super) status: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Condition {
    pub(super) fn true_(
        kind: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            status: true,
            reason,
            message: message.into(),
        }
    }

    pub(super) fn false_(
        kind: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            status: false,
            reason,
            message: message.into(),
        }
    }
}

/// The conditions that are to be there after these, in the order given; those of other types that are
/// there already stay.
pub(super) fn list(
    wanted: &[Condition],
    current: &[Value],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Value> {
    let is_wanted = |kind: &Value| wanted.iter().any(|condition| condition.kind == kind);
    let own = wanted.iter().map(|condition| {
        let status = if condition.status { "True" } else { "False" };
        let unchanged = current.iter().find(|c| c["type"] == condition.kind && c["status"] == status);
        let since = unchanged.map(|c| c["lastTransitionTime"].clone());
        json!({
            "type": condition.kind,
            "status": status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": generation.unwrap_or_default(),
            // metav1.Time has whole seconds.
            "lastTransitionTime": since.unwrap_or_else(|| json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
        })
    });
    own.chain(current.iter().filter(|c| !is_wanted(&c["type"])).cloned())
        .collect()
}
