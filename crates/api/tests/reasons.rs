//! `docs/reasons.md` explains every reason, where it belongs, and nothing that is no reason.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kthena_bridge_api::condition::{ConditionType, Reason};

const REASONS: &str = include_str!("../../../docs/reasons.md");

/// The labels of the parts that each entry has, in this order.
const PARTS: [&str; 4] = ["Meaning", "Cause", "Fix", "Verify"];

/// What stands below a heading of the third level.
struct Entry<'a> {
    /// The heading of the second level that it stands below.
    section: &'a str,
    name: &'a str,
    lines: Vec<&'a str>,
}

fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let (mut section, mut inside, mut code) = ("", false, false);
    for line in text.lines() {
        code ^= line.starts_with("```");
        let heading = |level| (!code).then(|| line.strip_prefix(level)).flatten();
        if let Some(name) = heading("### ") {
            inside = true;
            entries.push(Entry {
                section,
                name,
                lines: Vec::new(),
            });
        } else if let Some(name) = heading("## ").or(heading("# ")) {
            (section, inside) = (name, false);
        } else if inside && let Some(entry) = entries.last_mut() {
            entry.lines.push(line);
        }
    }
    entries
}

/// The line below the heading, such as `Programmed=False`.
fn status(reason: Reason) -> String {
    format!("`{}={}`", reason.condition(), reason.status())
}

/// What has to be changed.
fn problems(text: &str) -> Vec<String> {
    let entries = entries(text);
    let mut problems = Vec::new();
    for condition in ConditionType::ALL {
        let heading = format!("## {condition}");
        match text.lines().filter(|line| *line == heading).count() {
            0 => problems.push(format!("add the heading `{heading}`")),
            1 => {}
            _ => problems.push(format!("keep one of the headings `{heading}`")),
        }
    }
    for (at, reason) in Reason::ALL.iter().enumerate() {
        let condition = reason.condition();
        let mut found = entries.iter().filter(|e| e.name == reason.as_str());
        match (found.next(), found.next()) {
            (None, _) => {
                let before = Reason::ALL[..at].last();
                let place = match before.filter(|before| before.condition() == condition) {
                    Some(before) => format!("behind `### {before}`"),
                    None => "as the first".to_owned(),
                };
                problems.push(format!(
                    "add `### {reason}` below `## {condition}`, {place}; below it {}, and then **{}**, each with \
                     a colon and a text",
                    status(*reason),
                    PARTS.join("**, **"),
                ));
            }
            (Some(_), Some(_)) => problems.push(format!("keep one of the entries `### {reason}`")),
            (Some(entry), None) => {
                if entry.section != condition.as_str() {
                    problems.push(format!("move `### {reason}` below `## {condition}`"));
                }
                problems.extend(problems_of(entry, *reason));
            }
        }
    }
    for entry in &entries {
        let below_a_condition = ConditionType::ALL
            .iter()
            .any(|c| c.as_str() == entry.section);
        if below_a_condition && Reason::ALL.iter().all(|r| r.as_str() != entry.name) {
            problems.push(format!(
                "remove `### {}` below `## {}`, or call it by its name: it is no reason",
                entry.name, entry.section
            ));
        }
    }
    problems.extend(out_of_order(&entries));
    problems
}

/// The first entry that is not where the enum has it.
fn out_of_order(entries: &[Entry<'_>]) -> Option<String> {
    let all = Reason::ALL.iter().map(|reason| reason.as_str());
    let known: BTreeSet<&str> = all.clone().collect();
    let found: Vec<&str> = entries
        .iter()
        .map(|e| e.name)
        .filter(|name| known.contains(name))
        .collect();
    let mut wanted = all.filter(|name| found.contains(name));
    let wrong = found.iter().find_map(|name| {
        let wanted = wanted.next()?;
        (wanted != *name).then_some((wanted, name))
    });
    wrong.map(|(wanted, name)| {
        format!("put `### {wanted}` where `### {name}` is: the entries go in the order of the enum")
    })
}

fn problems_of(entry: &Entry<'_>, reason: Reason) -> Vec<String> {
    let mut problems = Vec::new();
    let status = status(reason);
    let first = entry.lines.iter().find(|line| !line.trim().is_empty());
    if first.is_none_or(|first| first.trim() != status) {
        problems.push(format!("put {status} on a line below `### {reason}`"));
    }
    let mut labels = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    let mut code = false;
    for line in &entry.lines {
        let fence = line.starts_with("```");
        code ^= fence;
        let labelled = PARTS.into_iter().find_map(|label| {
            let rest = line.strip_prefix(&format!("**{label}**:"))?;
            (!code).then_some((label, rest))
        });
        if let Some((label, rest)) = labelled {
            labels.push(label);
            texts.push(rest.trim().to_owned());
        } else if let Some(text) = texts.last_mut().filter(|_| !fence) {
            text.push_str(line.trim());
        }
    }
    for label in PARTS {
        let mut texts = labels.iter().zip(&texts).filter(|(l, _)| **l == label);
        match (texts.next(), texts.next()) {
            (None, _) => problems.push(format!("add **{label}**: and a text to `### {reason}`")),
            (Some((_, text)), None) if text.is_empty() => problems.push(format!(
                "write something behind **{label}**: of `### {reason}`"
            )),
            (Some(_), None) => {}
            (Some(_), Some(_)) => {
                problems.push(format!("keep one **{label}**: of `### {reason}`"));
            }
        }
    }
    if problems.is_empty() && labels != PARTS {
        problems.push(format!(
            "put the parts of `### {reason}` in the order {}",
            PARTS.join(", ")
        ));
    }
    problems
}

#[test]
fn every_reason_is_explained_where_it_belongs() {
    let problems = problems(REASONS);
    assert!(
        problems.is_empty(),
        "docs/reasons.md:\n- {}",
        problems.join("\n- ")
    );
}

/// A document without a problem.
fn complete() -> String {
    let mut text = "# Reasons\n".to_owned();
    for condition in ConditionType::ALL {
        let _ = write!(text, "\n## {condition}\n");
        for reason in Reason::ALL.iter().filter(|r| r.condition() == condition) {
            let _ = write!(text, "\n### {reason}\n\n{}\n", status(*reason));
            for label in PARTS {
                let _ = write!(
                    text,
                    "\n**{label}**: {reason}\n\n```console\n### code\n```\n"
                );
            }
        }
    }
    text
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    assert_eq!(problems(&complete()), Vec::<String>::new());
    // What is replaced by what, and what is then told.
    let cases = [
        (
            "### PortNotServed\n",
            "",
            "add `### PortNotServed` below `## Programmed`, behind `### NoReadyEndpoints`; below it `Programmed=False`",
        ),
        (
            "### InvalidAnnotation\n",
            "",
            "add `### InvalidAnnotation` below `## Accepted`, behind `### Accepted`",
        ),
        (
            "### Programmed\n",
            "",
            "add `### Programmed` below `## Programmed`, as the first",
        ),
        (
            "### Pending\n",
            "### Pondering\n",
            "remove `### Pondering` below `## Programmed`",
        ),
        (
            "### Forbidden\n",
            "### Forbidden\n\n### Forbidden\n",
            "keep one of the entries `### Forbidden`",
        ),
        (
            "\n## Reachable\n",
            "",
            "move `### RequestFailed` below `## Reachable`",
        ),
        ("\n## Reachable\n", "", "add the heading `## Reachable`"),
        (
            "\n## Reachable\n",
            "\n## Reachable\n\n## Reachable\n",
            "keep one of the headings `## Reachable`",
        ),
        (
            "### Pending\n\n`Programmed=Unknown`",
            "### Pending\n\n`Programmed=False`",
            "put `Programmed=Unknown` on a line below `### Pending`",
        ),
        (
            "**Fix**: ApplyFailed",
            "ApplyFailed",
            "add **Fix**: and a text to `### ApplyFailed`",
        ),
        (
            "**Cause**: ModelFailed\n\n```console\n### code\n```\n",
            "**Cause**:\n\n```console\n```\n",
            "write something behind **Cause**: of `### ModelFailed`",
        ),
        (
            "**Meaning**: ModelFailed",
            "**Meaning**: ModelFailed\n\n**Meaning**: ModelFailed",
            "keep one **Meaning**: of `### ModelFailed`",
        ),
        (
            "**Meaning**: ModelFailed",
            "**Verify**: x\n\n**Meaning**: ModelFailed",
            "keep one **Verify**: of `### ModelFailed`",
        ),
    ];
    for (from, to, told) in cases {
        let changed = complete().replacen(from, to, 1);
        let problems = problems(&changed);
        assert!(
            problems.iter().any(|problem| problem.contains(told)),
            "{told:?} is not told: {problems:#?}"
        );
    }
}

#[test]
fn the_order_is_that_of_the_enum_and_of_the_parts() {
    let swap = |a: &str, b: &str| {
        complete()
            .replace(a, "swapped")
            .replace(b, a)
            .replace("swapped", b)
    };
    let told = [
        (
            swap("### Pending\n", "### NotReported\n"),
            "put `### Pending` where `### NotReported` is",
        ),
        (
            swap("**Cause**: Pending", "**Fix**: Pending"),
            "put the parts of `### Pending` in the order Meaning, Cause, Fix, Verify",
        ),
    ];
    for (text, told) in told {
        let problems = problems(&text);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].contains(told), "{problems:#?}");
    }
}
