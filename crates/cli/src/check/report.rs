//! What was found: one line for each check, in categories, for people and as JSON.

use std::fmt::Write as _;

use anstyle::Style;
use serde::Serialize;

use crate::docs::{link, wrap};
use crate::output::{BAD, GOOD, UNKNOWN, styled};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// As it has to be.
    Ok,
    /// It works, or may work, with a limit; or it may not be read.
    Warning,
    /// Models cannot be exposed like this, or not all.
    Failed,
}

impl Outcome {
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::Ok => "√",
            Self::Warning => "‼",
            Self::Failed => "×",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => GOOD,
            Self::Warning => UNKNOWN,
            Self::Failed => BAD,
        }
    }
}

macro_rules! subjects {
    ($( $name:ident $text:literal, )*) => {
        /// What is checked. Each has an entry in `docs/checks.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Subject { $( $name, )* }

        impl Subject {
            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// As it stands in the output, and as the heading in `docs/checks.md`.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $( Self::$name => $text, )* }
            }
        }
    };
}

subjects! {
    KubernetesVersion "kubernetes-version",
    InstallRights "install-rights",
    GatewayApi "gateway-api",
    GatewayApiVersion "gateway-api-version",
    InferencePool "inference-pool",
    InferenceExtensionVersion "inference-extension-version",
    InferenceModelRewrite "inference-model-rewrite",
    InferenceObjective "inference-objective",
    Kthena "kthena",
    KthenaController "kthena-controller",
    KthenaVersion "kthena-version",
    Gateways "gateways",
    GatewayConfigured "gateway-configured",
    GatewayClass "gateway-class",
    GatewayProgrammed "gateway-programmed",
    GatewayKinds "gateway-kinds",
    GatewayLimits "gateway-limits",
    IstioInference "istio-inference",
    IstioVersion "istio-version",
    Operator "operator",
    OperatorReady "operator-ready",
    OperatorVersion "operator-version",
    OperatorConfiguration "operator-configuration",
    ModelExposureDefinition "model-exposure-definition",
    OperatorRights "operator-rights",
    PickerRights "endpoint-picker-rights",
    PickerImage "endpoint-picker-image",
    PickerVersions "endpoint-picker-versions",
    PickersReady "endpoint-pickers-ready",
    Models "models",
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) subject: Subject,
    pub(crate) outcome: Outcome,
    /// What is so.
    pub(crate) said: String,
    /// What to do; only where it is not as it has to be.
    pub(crate) hint: Option<String>,
}

impl Check {
    /// It is as it has to be.
    pub(crate) fn ok(subject: Subject, said: impl Into<String>) -> Self {
        Self {
            subject,
            outcome: Outcome::Ok,
            said: said.into(),
            hint: None,
        }
    }

    /// It works, or may, with a limit.
    pub(crate) fn warning(
        subject: Subject,
        said: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            subject,
            outcome: Outcome::Warning,
            said: said.into(),
            hint: Some(hint.into()),
        }
    }

    /// It is not as it has to be.
    pub(crate) fn failed(
        subject: Subject,
        said: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            outcome: Outcome::Failed,
            ..Self::warning(subject, said, hint)
        }
    }
}

/// Checks that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Category {
    pub(crate) name: &'static str,
    pub(crate) checks: Vec<Check>,
}

/// All that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report(pub(crate) Vec<Category>);

impl Report {
    fn count(&self, outcome: Outcome) -> usize {
        let checks = self.0.iter().flat_map(|category| &category.checks);
        checks.filter(|check| check.outcome == outcome).count()
    }

    /// Whether nothing failed.
    pub(crate) fn success(&self) -> bool {
        self.count(Outcome::Failed) == 0
    }

    /// For people, with colours.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for category in self.0.iter().filter(|c| !c.checks.is_empty()) {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}\n{}",
                category.name,
                "-".repeat(category.name.len())
            );
            for check in &category.checks {
                let _ = writeln!(
                    text,
                    "{} {}",
                    styled(check.outcome.mark(), check.outcome.style()),
                    check.said
                );
                if let Some(hint) = &check.hint {
                    for line in hint.lines() {
                        // A command is copied as a whole.
                        if line.starts_with("kubectl ") || line.starts_with("helm ") {
                            let _ = writeln!(text, "      {line}");
                        } else {
                            wrap(&mut text, line, 4);
                        }
                    }
                    let _ = writeln!(text, "    {}", link("checks.md", check.subject.as_str()));
                }
            }
            text.push('\n');
        }
        let (failed, warnings) = (self.count(Outcome::Failed), self.count(Outcome::Warning));
        let _ = match (failed, warnings) {
            (0, 0) => writeln!(text, "√ everything is as it has to be"),
            (0, _) => writeln!(text, "√ nothing failed; ‼ {warnings} to look at"),
            (_, 0) => writeln!(text, "× {failed} failed"),
            _ => writeln!(text, "× {failed} failed; ‼ {warnings} to look at"),
        };
        text
    }

    /// For programs. Fields are added, and none is renamed or removed.
    pub(crate) fn json(&self) -> serde_json::Value {
        let categories = self.0.iter().map(|category| {
            let checks = category.checks.iter().map(|check| {
                serde_json::json!({
                    "check": check.subject.as_str(),
                    "result": check.outcome,
                    "description": check.said,
                    "hint": check.hint,
                    "url": check.hint.as_ref().map(|_| link("checks.md", check.subject.as_str())),
                })
            });
            serde_json::json!({"category": category.name, "checks": checks.collect::<Vec<_>>()})
        });
        serde_json::json!({
            "success": self.success(),
            "failed": self.count(Outcome::Failed),
            "warnings": self.count(Outcome::Warning),
            "categories": categories.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docs::section;

    fn report() -> Report {
        Report(vec![
            Category {
                name: "kubernetes",
                checks: vec![Check::ok(
                    Subject::KubernetesVersion,
                    "Kubernetes is v1.36.3",
                )],
            },
            Category {
                name: "nothing",
                checks: Vec::new(),
            },
            Category {
                name: "gateways",
                checks: vec![
                    Check::warning(Subject::GatewayLimits, "a limit", "what that means"),
                    Check::failed(
                        Subject::GatewayProgrammed,
                        "Gateway a/b is not programmed",
                        "Its conditions say why, in words that may be as long as a line of a terminal is wide:\n\
                         kubectl -n a describe gateway b --a-flag-that-makes-it-longer-than-a-line-of-a-terminal",
                    ),
                ],
            },
        ])
    }

    /// What a file gets.
    fn plain(report: &Report) -> String {
        anstream::adapter::strip_str(&report.text()).to_string()
    }

    #[test]
    fn people_get_a_line_a_check_and_hints_below() {
        insta::assert_snapshot!(plain(&report()));
    }

    #[test]
    fn programs_get_the_same() {
        insta::assert_yaml_snapshot!(report().json());
    }

    #[test]
    fn every_check_is_explained_once_and_nothing_else_is() {
        const CHECKS: &str = include_str!("../../../../docs/checks.md");
        let headings: Vec<&str> = CHECKS
            .lines()
            .filter_map(|l| l.strip_prefix("### "))
            .collect();
        let subjects: Vec<&str> = Subject::ALL.iter().map(|s| s.as_str()).collect();
        assert_eq!(
            headings, subjects,
            "docs/checks.md has an entry a check, in this order"
        );
        for subject in subjects {
            let lines = section(CHECKS, &format!("### {subject}")).unwrap();
            let words = lines.join(" ").split_whitespace().count();
            assert!(words > 8, "{subject} is not explained: {lines:?}");
        }
    }
}
