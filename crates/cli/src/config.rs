//! The operator's configuration file.

use std::io::Write as _;
use std::path::Path;

use kthena_bridge_core::Config;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}")]
pub(crate) struct Error {
    file: String,
    problem: String,
}

/// Reads a file; the defaults where there is none.
pub(crate) fn read(path: Option<&Path>) -> Result<Config, Error> {
    let Some(path) = path else {
        return Ok(Config::default());
    };
    let problem = |problem: String| Error {
        file: path.display().to_string(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|e| problem(e.to_string()))?;
    Config::parse(&text).map_err(|e| problem(e.to_string()))
}

/// Prints the JSON Schema of the file.
pub(crate) fn print_schema() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &Config::schema())?;
    writeln!(out)
}
