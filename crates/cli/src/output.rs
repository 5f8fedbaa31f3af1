//! What commands print: columns, ages, colours and documents.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

/// As kubectl shows what is not there.
pub(crate) const NONE: &str = "<none>";
/// It is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// It is not as it should be.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// It is not known.
pub(crate) const UNKNOWN: Style = AnsiColor::Yellow.on_default();
/// Nothing to say of it.
pub(crate) const PLAIN: Style = Style::new();

/// The form of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Document {
    Json,
    Yaml,
}

/// Why nothing could be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("writing to standard output: {0}")]
    Write(#[from] io::Error),
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("writing YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
}

/// Prints to standard output, with colours where that is a terminal. A reader that has gone, such as
/// `head`, has seen enough.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// A document with a line break at its end.
pub(crate) fn document(value: &impl Serialize, form: Document) -> Result<String, Error> {
    Ok(match form {
        Document::Json => serde_json::to_string_pretty(value)? + "\n",
        Document::Yaml => serde_yaml::to_string(value)?,
    })
}

/// A text in a colour.
pub(crate) fn styled(text: &str, style: Style) -> String {
    if style == PLAIN {
        return text.to_owned();
    }
    format!("{style}{text}{style:#}")
}

/// The colour of a condition's status where `True` is good.
pub(crate) fn style_of(status: &str) -> Style {
    match status {
        "True" => GOOD,
        "False" => BAD,
        _ => UNKNOWN,
    }
}

/// A cell of a table.
#[derive(Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A text, or what stands for none.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::styled(text, PLAIN)
    }

    /// A text in a colour.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        let text = text.into();
        let text = if text.is_empty() {
            NONE.to_owned()
        } else {
            text
        };
        Self { text, style }
    }
}

/// Columns as kubectl aligns them: three spaces between, nothing behind the last.
pub(crate) fn table(header: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<Cell> = header.iter().map(|h| Cell::new(*h)).collect();
    for row in std::iter::once(&header).chain(rows) {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(&styled(&cell.text, cell.style));
            if index + 1 < row.len() {
                let padding = width + 3 - cell.text.chars().count();
                // Writing to a String cannot fail.
                let _ = write!(text, "{:padding$}", "");
            }
        }
        text.push('\n');
    }
    text
}

/// The time since, as kubectl shows it.
/// <https://github.com/kubernetes/apimachinery/blob/v0.34.0/pkg/util/duration/duration.go>
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let years = days / 365;
    let two = |large: i64, one: &str, small: i64, other: &str| match small {
        0 => format!("{large}{one}"),
        small => format!("{large}{one}{small}{other}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if years < 8 => two(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        let shown = |seconds: i64| {
            age(
                Timestamp::UNIX_EPOCH,
                Timestamp::from_second(seconds).unwrap(),
            )
        };
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * 3_600 - 1, "179m"),
            (3 * 3_600, "3h"),
            (8 * 3_600 - 1, "7h59m"),
            (8 * 3_600, "8h"),
            (48 * 3_600, "2d"),
            (8 * 86_400 - 1, "7d23h"),
            (8 * 86_400, "8d"),
            (730 * 86_400, "2y"),
            (731 * 86_400, "2y1d"),
            (9 * 365 * 86_400, "9y"),
        ] {
            assert_eq!(shown(seconds), text, "{seconds} s");
        }
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen_of_them() {
        let rows = [
            vec![Cell::new("a"), Cell::styled("True", GOOD), Cell::new("x")],
            vec![Cell::new("longer"), Cell::new(""), Cell::new("y")],
        ];
        let shown = table(&["NAME", "OK", "LAST"], &rows);
        assert_eq!(
            anstream::adapter::strip_str(&shown).to_string(),
            "NAME     OK       LAST\na        True     x\nlonger   <none>   y\n"
        );
        assert!(shown.contains("\u{1b}[32mTrue\u{1b}[0m"), "{shown:?}");
    }
}
