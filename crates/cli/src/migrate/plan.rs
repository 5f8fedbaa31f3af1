//! What `migrate` says before it does anything.

use std::fmt::Write as _;

use super::by_hand::ByHand;
use super::{Migration, keepers, temporary_path};
use crate::output;

impl Migration {
    /// What is there, and what is done.
    pub(super) fn told(&self, model: &str, copies: Option<&ByHand>) -> String {
        let mut text = format!("{model} is served by what was made by hand:\n");
        let rows = self.by_hand.all().map(|object| {
            let collides = object.is_among(&self.collides);
            let mut said = if object == &self.by_hand.route {
                "has the requests (RouteConflict)".to_owned()
            } else {
                "replaced".to_owned()
            };
            if collides {
                said.push_str("; its name is needed (NameConflict)");
            }
            if let Some(keeper) = object.keeper() {
                // Writing to a String cannot fail.
                let _ = write!(said, "; kept by {keeper}");
            }
            let cells = [object.resource.kind.as_str(), object.name(), &said];
            cells.map(output::Cell::new).into()
        });
        text.push_str(&output::table(
            &["KIND", "NAME", "NOTE"],
            &rows.collect::<Vec<_>>(),
        ));
        for (what, why) in &self.by_hand.left {
            let _ = writeln!(text, "left: {what}: {why}");
        }
        text.push_str("\nThe Model's annotations from then on:\n");
        for (key, value) in &self.annotations {
            let _ = writeln!(text, "  {key}: {value:?}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text.push_str("\nWhat is done:\n");
        for (number, step) in self.steps(copies).iter().enumerate() {
            let _ = writeln!(text, "  {}. {step}", number + 1);
        }
        text
    }

    fn steps(&self, copies: Option<&ByHand>) -> Vec<String> {
        let mut steps = Vec::new();
        let mut by_hand = &self.by_hand;
        if let Some(copies) = copies {
            steps.push(format!(
                "copy them under other names ({} and so on), and wait until the copy's endpoint picker is ready",
                copies.pool.name()
            ));
            steps.push("send the requests through the copies".to_owned());
            let originals = self.by_hand.all();
            match keepers(originals.filter(|o| o.is_among(&self.collides))).as_slice() {
                [] => steps.push("delete the originals, whose names are needed".to_owned()),
                keepers => {
                    let releases: Vec<String> = keepers
                        .iter()
                        .map(|k| k.release(self.by_hand.route.namespace()))
                        .collect();
                    steps.push(format!(
                        "stop, since the originals are kept: {}; then this command goes on",
                        releases.join("; ")
                    ));
                    return steps;
                }
            }
            by_hand = copies;
        }
        steps.push(format!(
            "expose the Model under {}, and wait until its own endpoint picker and route are ready",
            temporary_path(by_hand.route.namespace(), &self.model)
        ));
        steps.push(format!(
            "give its route the requests, beside {}",
            by_hand.route
        ));
        steps.push(format!("take the requests from {}", by_hand.route));
        steps.push("delete what was made by hand, when no request is under way there".to_owned());
        steps
    }
}
