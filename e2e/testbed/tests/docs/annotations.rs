//! `docs/annotations.md` has every annotation, as the list of them tells it.

use std::fmt::Write as _;

use kthena_bridge_api::annotation::{self, Annotation};
use testbed::document::{is_generated, read};

#[test]
fn the_table_is_that_of_the_annotations() {
    let mut table =
        "| annotation | value | default | what it does |\n|---|---|---|---|\n".to_owned();
    for Annotation {
        key,
        form,
        default,
        effect,
        ..
    } in annotation::ALL
    {
        writeln!(table, "| `{key}` | {form} | {default} | {effect} |").unwrap();
    }
    is_generated("docs/annotations.md", "annotations", &table).unwrap();
}

/// The README has some of them only, and none that there is not.
#[test]
fn documents_name_annotations_that_there_are() {
    for path in testbed::document::documents_for_users().unwrap() {
        let text = read(&path).unwrap();
        for rest in text.split("kthena-bridge.io/").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-');
            let key = rest[..end.unwrap_or(rest.len())].trim_end_matches('-');
            // Nothing, a placeholder, the version of ModelExposure, or a label or annotation on what is written.
            let others = [
                "",
                "v",
                "endpoint-picker",
                "model",
                "activated",
                "config-hash",
                "pool-uid",
            ];
            let known = annotation::of(&format!("kthena-bridge.io/{key}")).is_some();
            assert!(
                known || others.contains(&key),
                "{path}: kthena-bridge.io/{key}"
            );
        }
    }
}
