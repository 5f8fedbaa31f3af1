//! As whom the binary is called: by its own name, or by kubectl.
//!
//! kubectl takes any executable on the PATH that is called `kubectl-…` for a command of its own, and asks
//! `kubectl_complete-…` for what may come next on its command line. A link of either name is enough.
//! <https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>

use std::ffi::OsStr;
use std::path::Path;

/// kubectl writes an underscore for a hyphen within a plugin's name.
const PLUGIN: &str = "kubectl-kthena_bridge";
const COMPLETION: &str = "kubectl_complete-kthena_bridge";
/// What a user of the plugin types.
const USAGE: &str = "kubectl kthena-bridge";

/// As whom the binary is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// By its own name.
    User,
    /// As kubectl's plugin.
    Kubectl,
    /// By kubectl, for the candidates for its last argument.
    Completion,
}

impl Caller {
    /// Tells by the name that the binary is called by.
    pub(crate) fn of(program: Option<&OsStr>) -> Self {
        match program.and_then(|p| Path::new(p).file_stem()?.to_str()) {
            Some(PLUGIN) => Self::Kubectl,
            Some(COMPLETION) => Self::Completion,
            _ => Self::User,
        }
    }

    /// The command with the name that this caller knows it by.
    pub(crate) fn name(self, command: clap::Command) -> clap::Command {
        match self {
            Self::User => command,
            Self::Kubectl | Self::Completion => command.bin_name(USAGE),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_caller_shows_in_the_name() {
        let of = |name: &str| Caller::of(Some(OsStr::new(name)));
        assert_eq!(of("/usr/local/bin/kubectl-kthena_bridge"), Caller::Kubectl);
        assert_eq!(of("kubectl_complete-kthena_bridge"), Caller::Completion);
        assert_eq!(of("./kthena-bridge"), Caller::User);
        assert_eq!(Caller::of(None), Caller::User);
    }

    #[test]
    fn the_usage_is_what_the_user_typed() {
        let usage = |caller: Caller| {
            let mut command = caller.name(crate::Cli::command());
            let error = command
                .try_get_matches_from_mut(["x", "render"])
                .unwrap_err();
            error.to_string()
        };
        assert!(usage(Caller::Kubectl).contains("Usage: kubectl kthena-bridge render "));
        assert!(usage(Caller::User).contains("render "));
    }
}
