//! `kthena-bridge check`: whether the cluster has what Models need to be exposed.
//!
//! Everything is read first, and judged by functions of what was read.

mod facts;
mod gateways;
mod inference;
mod kubernetes;
mod operator;
mod pickers;
mod report;
mod rights;
mod version;

use clap::{Args, ValueEnum};

use crate::cluster::{self, Access};
use facts::{Facts, Unknown};
use report::{Check, Report, Subject};

/// Arguments of `check`.
#[derive(Args)]
#[command(after_long_help = "\
√ is as it has to be, ‼ works with a limit or may not be read, × keeps Models from being exposed.

Exit codes:
  0  nothing failed
  1  something failed
  2  there is no cluster, or the arguments are wrong")]
pub(crate) struct Arguments {
    /// Check only what has to be there before the operator is installed.
    #[arg(long)]
    pre: bool,
    /// The form of the report.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Where the operator is looked for by those who may not list Deployments of all namespaces, and where
    /// --pre assumes that it will be installed.
    #[arg(long, value_name = "NAME", default_value = crate::config::NAMESPACE, help_heading = "Cluster")]
    operator_namespace: String,
    #[command(flatten)]
    access: Access,
}

/// The form of the report.
#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Json,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Facts(#[from] facts::Error),
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Checks, and gives what is to be printed and whether nothing failed.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(arguments: &Arguments) -> Result<(String, bool), Error> {
    let cluster = arguments.access.cluster().await?;
    let namespace = &arguments.operator_namespace;
    let facts = Box::pin(Facts::read(&cluster.client, namespace, arguments.pre)).await?;
    let report = judge(&facts);
    let text = match arguments.output {
        Some(Output::Json) => serde_json::to_string_pretty(&report.json())? + "\n",
        None => report.text(),
    };
    Ok((text, report.success()))
}

fn judge(facts: &Facts) -> Report {
    let mut categories = vec![
        kubernetes::category(facts),
        kubernetes::gateway_api(facts),
        inference::category(facts),
        kubernetes::kthena(facts),
        gateways::category(facts),
    ];
    if let Some(installed) = &facts.installed {
        categories.push(operator::category(installed));
        categories.push(pickers::category(installed));
        categories.push(pickers::models(installed));
    }
    Report(categories)
}

/// What may not be read, or did not come, is not known to be wrong.
fn unknown(subject: Subject, what: &str, why: &Unknown) -> Check {
    match why {
        Unknown::Forbidden(cause) => Check::warning(
            subject,
            format!("{what}: you may not read this"),
            format!("{cause}\nAsk for that right, or have somebody check who has it."),
        ),
        Unknown::Failed(cause) => Check::warning(
            subject,
            format!("{what}: could not be read"),
            format!("{cause}\nTry again."),
        ),
        Unknown::Wrong(cause) => {
            Check::failed(subject, format!("{what}: cannot be understood"), cause)
        }
    }
}

/// The first of some names, and how many more there are.
fn names<T: AsRef<str>>(all: &[T]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = all.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
