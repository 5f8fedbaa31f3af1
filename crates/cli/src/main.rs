//! `kthena-bridge`: exposes Kthena Models through the cluster's Gateway.

mod annotate;
mod check;
mod cluster;
mod completions;
mod config;
mod crds;
mod desired;
mod diff;
mod docs;
mod explain;
#[cfg(test)]
mod fixture;
mod input;
mod log;
mod migrate;
mod observe;
mod output;
mod plugin;
mod render;
mod run;
mod status;
mod tree;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use plugin::Caller;

/// The operator keeps very many small things for long, and reads long lists now and then: glibc's allocator keeps
/// what the lists took, and musl's, which the image would have, lets threads wait for each other. How it is set is in
/// `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exposes Kthena Models through the cluster's Gateway.
#[derive(Parser)]
#[command(name = "kthena-bridge", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator, in a cluster or, with a kubeconfig, outside of one.
    Run(run::Arguments),
    /// Print the objects that a Model would be exposed with. Needs no cluster.
    Render(render::Arguments),
    /// Print the JSON Schema of the operator's configuration file.
    #[command(hide = true)]
    ConfigSchema,
    /// Print the definition of ModelExposure, to be installed. Needs no cluster.
    Crds,
    /// Say what a condition's reason means, and what to do. Needs no cluster.
    Explain(explain::Arguments),
    /// Expose a Model, change how, or take it off, by flags in place of annotations.
    Annotate(Box<annotate::Arguments>),
    /// Check whether the cluster has what Models need to be exposed.
    Check(check::Arguments),
    /// Hand a Model over from objects that were made by hand, without an outage.
    Migrate(Box<migrate::Arguments>),
    /// Print the script that completes commands in a shell.
    Completions(completions::Arguments),
    /// Compare the objects of Models with those that the operator would write now.
    Diff(diff::Arguments),
    /// Show the exposed Models: where they answer, and how they fare.
    Status(status::Arguments),
    /// Show everything of a Model, from it to its pods, with the conditions of each.
    Tree(tree::Arguments),
}

/// The input cannot be used; clap uses the same code for arguments.
const EXIT_BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let caller = Caller::of(std::env::args_os().next().as_deref());
    let mut command = caller.name(Cli::command());
    if caller == Caller::Completion {
        let words = std::env::args_os().skip(1).collect();
        return printed(completions::for_kubectl(command, words));
    }
    // What clap refuses ends the process here, with its own exit code.
    let matches = command.get_matches_mut();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let failed = |error: &dyn std::error::Error, code: ExitCode| {
        eprintln!("error: {error}");
        code
    };
    match cli.command {
        Command::Run(arguments) => match run::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error @ (run::Error::Config(_) | run::Error::Log(..))) => {
                failed(&error, ExitCode::from(EXIT_BAD_INPUT))
            }
            Err(error) => failed(&error, ExitCode::FAILURE),
        },
        Command::ConfigSchema => match config::print_schema() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, ExitCode::FAILURE),
        },
        Command::Crds => match crds::definitions() {
            Ok(text) => printed(output::print(&text)),
            Err(error) => failed(&error, ExitCode::FAILURE),
        },
        Command::Render(arguments) => match render::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, ExitCode::from(EXIT_BAD_INPUT)),
        },
        Command::Explain(arguments) => printed(output::print(&explain::run(&arguments))),
        Command::Annotate(arguments) => match annotate::run(&arguments) {
            Ok(text) => printed(output::print(&text)),
            Err(error) if error.is_bad_input() => failed(&error, ExitCode::from(EXIT_BAD_INPUT)),
            Err(error) => failed(&error, ExitCode::FAILURE),
        },
        Command::Check(arguments) => match check::run(&arguments) {
            Ok((text, success)) => match printed(output::print(&text)) {
                ExitCode::SUCCESS if !success => ExitCode::FAILURE,
                code => code,
            },
            Err(error) => failed(&error, ExitCode::from(EXIT_BAD_INPUT)),
        },
        Command::Migrate(arguments) => match migrate::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.is_bad_input() => failed(&error, ExitCode::from(EXIT_BAD_INPUT)),
            Err(error) => failed(&error, ExitCode::FAILURE),
        },
        Command::Completions(arguments) => {
            printed(completions::run(&arguments, &mut Cli::command()))
        }
        Command::Diff(arguments) => match diff::run(&arguments) {
            Ok(code) => code,
            Err(error) => failed(&error, ExitCode::from(EXIT_BAD_INPUT)),
        },
        Command::Status(arguments) => match status::run(&arguments) {
            Ok(code) => code,
            Err(error) => failed(&error, ExitCode::from(EXIT_BAD_INPUT)),
        },
        Command::Tree(arguments) => match tree::run(&arguments) {
            Ok(code) => code,
            Err(error) => failed(&error, ExitCode::from(EXIT_BAD_INPUT)),
        },
    }
}

/// Prints to standard output.
fn printed(printed: Result<(), output::Error>) -> ExitCode {
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
