//! The tools among the parts that are run to their end.

use tokio::process::Command;

use crate::error::Result;
use crate::process::output;

/// Runs a tool that comes with the parts, and gives what it says; an error with that when it fails.
pub async fn tool(name: &str, args: &[&str]) -> Result<String> {
    output(Command::new(crate::parts()?.join("bin").join(name)).args(args)).await
}
