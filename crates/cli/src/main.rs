//! `kthena-bridge`: exposes Kthena Models through the cluster's Gateway.

mod cluster;
mod config;
mod desired;
mod diff;
#[cfg(test)]
mod fixture;
mod input;
mod log;
mod observe;
mod output;
mod render;
mod run;
mod status;
mod tree;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    let failed = |error: &dyn std::error::Error, code: ExitCode| {
        eprintln!("error: {error}");
        code
    };
    match Cli::parse().command {
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
        Command::Render(arguments) => match render::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, ExitCode::from(EXIT_BAD_INPUT)),
        },
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
