//! `kthena-bridge completions`, and what kubectl asks for while a user types.

use std::ffi::OsString;
use std::io;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::output;

/// Arguments of `completions`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The shell that the script is for.
    shell: Shell,
}

/// Prints the script for a shell.
pub(crate) fn run(arguments: &Arguments, command: &mut Command) -> Result<(), output::Error> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, command, name, &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// kubectl is to complete no file names: ShellCompDirectiveNoFileComp.
/// <https://pkg.go.dev/github.com/spf13/cobra#ShellCompDirective>
const NO_FILES: &str = ":4";

/// Prints the candidates for the last of `words` as kubectl reads them from `kubectl_complete-PLUGIN`: one a
/// line, what it is behind a tab, and at the end how the shell is to treat them.
/// <https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>
pub(crate) fn for_kubectl(command: Command, words: Vec<OsString>) -> Result<(), output::Error> {
    output::print(&candidates(command, words)?)
}

fn candidates(command: Command, mut words: Vec<OsString>) -> io::Result<String> {
    if words.is_empty() {
        words.push(OsString::new());
    }
    let last = words.len() - 1;
    let mut command = command.no_binary_name(true);
    let found = clap_complete::engine::complete(&mut command, words, last, None)?;
    let mut text = String::new();
    for candidate in found.iter().filter(|c| !c.is_hide_set()) {
        text.push_str(&candidate.get_value().to_string_lossy());
        if let Some(help) = candidate.get_help() {
            text.push('\t');
            text.push_str(help.to_string().lines().next().unwrap_or_default());
        }
        text.push('\n');
    }
    text.push_str(NO_FILES);
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn complete(words: &[&str]) -> Vec<String> {
        let words = words.iter().map(OsString::from).collect();
        let text = candidates(crate::Cli::command(), words).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(lines.pop().as_deref(), Some(NO_FILES), "{text}");
        lines
    }

    #[test]
    fn kubectl_gets_commands_with_what_they_do() {
        let all = complete(&[""]);
        assert!(all.iter().any(|l| l.starts_with("render\t")), "{all:?}");
        let some = complete(&["ex"]);
        assert_eq!(some.len(), 1, "{some:?}");
        assert!(some[0].starts_with("explain\t"), "{some:?}");
    }

    #[test]
    fn kubectl_gets_flags_and_their_values() {
        assert_eq!(
            complete(&["render", "--prov"])[0].split('\t').next(),
            Some("--provider")
        );
        let providers = complete(&["render", "--provider", ""]);
        assert!(
            providers.iter().any(|l| l.starts_with("kthena-router")),
            "{providers:?}"
        );
    }

    #[test]
    fn kubectl_gets_reasons_to_explain() {
        let reasons = complete(&["explain", "RouteC"]);
        assert_eq!(
            reasons[0].split('\t').next(),
            Some("RouteConflict"),
            "{reasons:?}"
        );
    }
}
