//! `kthena-bridge explain`: what a condition's reason means, and what to do.

use std::fmt::Write as _;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use kthena_bridge_api::condition::{ConditionType, Reason};

use crate::docs::{REASONS, link, plain, section};

/// Arguments of `explain`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// A reason such as RouteConflict, or a condition type; without it, all reasons are listed.
    #[arg(ignore_case = true, hide_possible_values = true, value_parser = PossibleValuesParser::new(names()))]
    reason: Option<String>,
}

/// What can be explained. Each condition type is a reason's name, too.
fn names() -> Vec<PossibleValue> {
    let of = |reason: &Reason| PossibleValue::new(reason.as_str()).help(summary(*reason));
    Reason::ALL.iter().map(of).collect()
}

/// What is printed.
pub(crate) fn run(arguments: &Arguments) -> String {
    let Some(name) = &arguments.reason else {
        let lists = ConditionType::ALL.map(list);
        return lists.join("\n");
    };
    let is = |other: &str| other.eq_ignore_ascii_case(name);
    let mut text = String::new();
    for condition in ConditionType::ALL {
        if is(condition.as_str()) {
            text.push_str(&list(condition));
            text.push('\n');
        }
    }
    // The parser lets only names of reasons through.
    let reasons = Reason::ALL.iter().filter(|reason| is(reason.as_str()));
    text.extend(reasons.map(|reason| entry(*reason)));
    text
}

/// The reasons of a condition.
fn list(condition: ConditionType) -> String {
    let reasons: Vec<&Reason> = Reason::ALL
        .iter()
        .filter(|r| r.condition() == condition)
        .collect();
    let width = reasons
        .iter()
        .map(|r| r.as_str().len())
        .max()
        .unwrap_or_default();
    let mut text = format!("{condition}\n");
    for reason in reasons {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {:<width$}  {:<7}  {}",
            reason.as_str(),
            reason.status().as_str(),
            summary(*reason)
        );
    }
    text
}

/// The first sentence of what a reason means.
fn summary(reason: Reason) -> String {
    let lines = below(reason);
    let meaning = lines.iter().skip_while(|l| !l.starts_with("**Meaning**"));
    let meaning: Vec<&str> = meaning
        .take_while(|line| !line.is_empty())
        .copied()
        .collect();
    let meaning = meaning.join(" ");
    let meaning = meaning.trim_start_matches("**Meaning**:").trim();
    let end = meaning.find(". ").map_or(meaning.len(), |at| at + 1);
    meaning[..end].to_owned()
}

fn below(reason: Reason) -> Vec<&'static str> {
    section(REASONS, &format!("### {reason}")).unwrap_or_default()
}

/// The whole entry of a reason.
fn entry(reason: Reason) -> String {
    let mut text = format!("{reason} ({}={})\n", reason.condition(), reason.status());
    let lines = below(reason);
    let mut part: Vec<&str> = Vec::new();
    let status = format!("`{}={}`", reason.condition(), reason.status());
    for line in lines.into_iter().filter(|line| *line != status) {
        let labelled = line
            .strip_prefix("**")
            .and_then(|rest| rest.split_once("**:"));
        if let Some((label, rest)) = labelled {
            text.push_str(&plain(&part, 2));
            part.clear();
            let _ = writeln!(text, "\n{label}:");
            part.push(rest.trim());
        } else {
            part.push(line);
        }
    }
    text.push_str(&plain(&part, 2));
    // The heading of a condition comes before that of its reason of the same name.
    let anchor = reason.as_str().to_lowercase();
    let second = ConditionType::ALL
        .iter()
        .any(|c| c.as_str() == reason.as_str());
    let anchor = if second {
        format!("{anchor}-1")
    } else {
        anchor
    };
    let _ = writeln!(text, "\n{}", link("reasons.md", &anchor));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(reason: Option<&str>) -> String {
        run(&Arguments {
            reason: reason.map(str::to_owned),
        })
    }

    #[test]
    fn an_entry_is_shown_whole() {
        insta::assert_snapshot!(explain(Some("routeconflict")));
    }

    #[test]
    fn every_reason_has_a_summary_and_all_parts() {
        for reason in Reason::ALL {
            let summary = summary(*reason);
            assert!(summary.ends_with(['.', ':', ')']), "{reason}: {summary}");
            let entry = entry(*reason);
            for part in [
                "\nMeaning:\n  ",
                "\nCause:\n  ",
                "\nFix:\n  ",
                "\nVerify:\n",
            ] {
                assert!(entry.contains(part), "{reason} lacks {part:?}:\n{entry}");
            }
            assert!(!entry.contains("**") && !entry.contains("```"), "{entry}");
        }
    }

    #[test]
    fn the_list_has_every_reason_below_its_condition() {
        let all = explain(None);
        for condition in ConditionType::ALL {
            assert!(all.contains(&list(condition)), "{all}");
        }
        assert_eq!(
            all.lines().filter(|l| l.starts_with("  ")).count(),
            Reason::ALL.len()
        );
    }

    #[test]
    fn a_condition_type_gives_its_list_and_the_reason_of_its_name() {
        let text = explain(Some("Programmed"));
        assert!(text.starts_with(&list(ConditionType::Programmed)), "{text}");
        assert!(text.ends_with(&entry(Reason::Programmed)), "{text}");
    }
}
