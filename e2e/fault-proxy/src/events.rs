//! What becomes of the events of a watch: lines of JSON, in pieces of any size.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

use serde_json::{Value, json};

use crate::plan::WatchFault;

/// What to do with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is passed on.
    Pass(Vec<u8>),
    /// Wait for the thaw.
    Thaw,
    /// Wait for the thaw; then this is the last thing that is passed on.
    Expire(Vec<u8>),
    /// This is the last thing that is passed on; then the answer ends.
    Last(Vec<u8>),
    /// The connection is reset.
    Reset,
}

/// A watch while it is tampered with.
#[derive(Debug)]
pub struct Events {
    fault: Option<WatchFault>,
    seen: u32,
    rest: Vec<u8>,
}

impl Events {
    /// A watch that begins.
    pub fn new(fault: Option<WatchFault>) -> Self {
        Self {
            fault,
            seen: 0,
            rest: Vec::new(),
        }
    }

    /// From now on this goes wrong.
    pub fn tamper(&mut self, fault: Option<WatchFault>) {
        (self.fault, self.seen) = (fault, 0);
    }

    /// The lines that a piece completes.
    pub fn lines(&mut self, piece: &[u8]) -> Vec<Vec<u8>> {
        self.rest.extend_from_slice(piece);
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            lines.push(self.rest.drain(..=end).collect());
        }
        lines
    }

    /// What is to go wrong now, after what was passed on so far.
    pub fn due(&self) -> Option<Next> {
        match self.fault? {
            WatchFault::Cut(after) if self.seen >= after => Some(Next::Reset),
            WatchFault::End(after) if self.seen >= after => Some(Next::Last(Vec::new())),
            WatchFault::Gone(after) if self.seen >= after => Some(Next::Last(expired())),
            WatchFault::Freeze(after) if self.seen >= after => Some(Next::Thaw),
            WatchFault::Miss(after) if self.seen >= after => Some(Next::Expire(expired())),
            _ => None,
        }
    }

    /// What to do with a line.
    pub fn next(&mut self, line: Vec<u8>) -> Next {
        if self.fault.is_some() {
            let event: Value = serde_json::from_slice(&line).unwrap_or_default();
            self.seen += u32::from(event["type"] != "BOOKMARK");
        }
        Next::Pass(line)
    }
}

fn expired() -> Vec<u8> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
        "reason": "Expired", "message": "too old resource version",
    });
    let mut line = json!({"type": "ERROR", "object": status})
        .to_string()
        .into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(fault: WatchFault, text: &str, piece: usize) -> Vec<String> {
        let mut events = Events::new(Some(fault));
        let mut told = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            for line in events.lines(piece) {
                told.push(match events.next(line) {
                    Next::Pass(line) => String::from_utf8(line).unwrap().trim().to_owned(),
                    other => format!("{other:?}"),
                });
                told.extend(events.due().map(|due| format!("{due:?}")));
            }
        }
        told
    }

    #[test]
    fn events_are_whole_however_they_come() {
        let (added, bookmark) = ("{\"type\":\"ADDED\"}", "{\"type\":\"BOOKMARK\"}");
        let (modified, deleted) = ("{\"type\":\"MODIFIED\"}", "{\"type\":\"DELETED\"}");
        let text = format!("{added}\n{bookmark}\n{modified}\n{deleted}\n");
        for piece in 1..text.len() {
            let told = run(WatchFault::Cut(2), &text, piece);
            assert_eq!(told[..4], [added, bookmark, modified, "Reset"]);
        }
    }

    #[test]
    fn a_version_that_is_too_old_is_told_as_the_api_server_does() {
        let Some(Next::Last(line)) = Events::new(Some(WatchFault::Gone(0))).due() else {
            panic!("the answer is to end");
        };
        let event: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["code"]),
            (&json!("ERROR"), &json!(410))
        );
        assert_eq!(Events::new(Some(WatchFault::Gone(1))).due(), None);
    }
}
