//! `kthena-bridge`: exposes Kthena Models through the cluster's Gateway.

mod input;
mod render;

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
    /// Print the objects that a Model would be exposed with. Needs no cluster.
    Render(render::Arguments),
}

/// The input cannot be used; clap uses the same code for arguments.
const EXIT_BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let Command::Render(arguments) = Cli::parse().command;
    match render::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_BAD_INPUT)
        }
    }
}
