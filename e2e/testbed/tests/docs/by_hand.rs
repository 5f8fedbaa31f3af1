//! The figures of `docs/by-hand.md` are those of what a user writes by hand, in the test of that, and of what
//! `kthena-bridge render` gives.

use std::process::Command;

use serde_json::Value;
use testbed::document::{in_repository, read};
use testbed::{built_binaries, documents};

/// The objects, and the lines that they have when each field is in a line of its own, as kubectl prints them.
fn count(objects: &[Value]) -> (usize, usize) {
    let lines = |object: &Value| serde_yaml::to_string(object).unwrap().lines().count();
    (objects.len(), objects.iter().map(lines).sum())
}

#[test]
fn the_figures_are_counted() {
    let mut by_hand = documents(&read("e2e/testbed/tests/bed/by-hand.yaml").unwrap()).unwrap();
    let all = by_hand.len();
    // It is the administrator's, with the bridge as without.
    by_hand.retain(|object| object["kind"] != "Gateway");
    assert_eq!(by_hand.len(), all - 1);
    let (objects, lines) = count(&by_hand);
    let rendered = Command::new(built_binaries().unwrap().join("kthena-bridge"))
        .args(["render", "-f", "config/samples/modelbooster.yaml"])
        .args(["--provider", "istio"])
        .current_dir(in_repository(""))
        .output()
        .unwrap();
    assert!(rendered.status.success(), "{rendered:?}");
    let rendered = documents(&String::from_utf8(rendered.stdout).unwrap()).unwrap();
    let (rendered_objects, rendered_lines) = count(&rendered);
    let text = read("docs/by-hand.md").unwrap();
    for row in [
        format!("| objects to write and to keep | {objects} | none |"),
        format!("| lines of YAML to write and to keep | {lines} | 2 annotations |"),
        format!("| objects in the cluster | {objects} | {rendered_objects} |"),
        format!("| lines that they have | {lines} | {rendered_lines} |"),
    ] {
        assert!(text.contains(&row), "docs/by-hand.md needs the row {row}");
    }
    let short = format!("| {objects} objects, {lines} lines of YAML | 2 annotations |");
    assert!(read("README.md").unwrap().contains(&short), "{short}");
}
