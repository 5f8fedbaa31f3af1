//! `docs/providers.md` has every implementation of Gateway API, as the operator's table has it.

use std::fmt::Write as _;

use kthena_bridge_core::provider::{self, Provider};
use testbed::document::is_generated;

fn listed<T>(items: &[T], show: impl Fn(&T) -> String, none: &str) -> String {
    if items.is_empty() {
        return none.to_owned();
    }
    items.iter().map(show).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_table_is_the_operators() {
    let yes = |is| if is { "yes" } else { "no" };
    let mut table = "| provider | `controllerName` of its GatewayClass | objects beside the usual | endpoint picker | request timeout | header matches | writes statuses |\n|---|---|---|---|---|---|---|\n".to_owned();
    for Provider {
        name,
        controller_names,
        objects,
        asks_picker,
        timeouts,
        headers,
        reports,
        ..
    } in provider::ALL
    {
        let controllers = listed(controller_names, |name| format!("`{name}`"), "any other");
        let objects = listed(objects, ToString::to_string, "none");
        writeln!(
            table,
            "| `{name}` | {controllers} | {objects} | {} | {} | {} | {} |",
            if *asks_picker {
                "asked"
            } else {
                "not asked: none is run"
            },
            if *timeouts {
                "in the HTTPRoute"
            } else {
                "not in the HTTPRoute"
            },
            yes(*headers),
            yes(*reports),
        )
        .unwrap();
    }
    is_generated("docs/providers.md", "providers", &table).unwrap();
}
