//! The images that the bed knows: the endpoint picker, Kthena's router, the bridge itself, and those of
//! Kthena's pods, which the simulated vLLM stands for.

use std::path::{Path, PathBuf};

use process_kubelet::{Arguments, ImageMap};

use crate::error::{Context as _, Error, Result};

/// The module that Kthena starts vLLM's server by.
const SERVER: &str = "vllm.entrypoints.openai.api_server";
/// The module that SGLang's server is started by.
const SGLANG: &str = "sglang.launch_server";
/// What Kthena starts the Ray workers of a model of several pods by.
const WORKER: &str = "multi-node-serving.sh worker";

/// Names the operator's binary where it is not the one that Cargo built for the tests, such as that of the
/// container image.
const OPERATOR_BINARY: &str = "KTHENA_BRIDGE_BINARY";

/// The folder in which Cargo puts this workspace's binaries: that of the test binary's folder `deps`.
pub fn built_binaries() -> Result<PathBuf> {
    let own = std::env::current_exe().context(|| "finding the workspace's binaries".to_owned())?;
    let dir = own.parent().map(|dir| {
        if dir.ends_with("deps") {
            dir.parent().unwrap_or(dir)
        } else {
            dir
        }
    });
    dir.map(Path::to_owned)
        .ok_or_else(|| Error::Other(format!("{} is in no folder", own.display())))
}

pub(crate) fn known(parts: &Path, built: &Path) -> Vec<ImageMap> {
    let sim = |image: &str, rule| ImageMap {
        arguments: Arguments::Rule(rule),
        sets_pod_name: true,
        ..ImageMap::as_given(image, built.join("sim-vllm"))
    };
    let operator = std::env::var_os(OPERATOR_BINARY)
        .map_or_else(|| built.join("kthena-bridge"), PathBuf::from);
    vec![
        ImageMap::as_given(
            "registry.k8s.io/gateway-api-inference-extension/epp:*",
            parts.join("epp"),
        ),
        ImageMap::as_given("*kthena-router:*", parts.join("kthena-router")),
        ImageMap::as_given("*kthena-bridge:*", operator),
        ImageMap {
            container: "runtime".to_owned(),
            ..sim("*/runtime:*", runtime)
        },
        sim("*vllm*", engine),
        sim("*vllm*", worker),
        sim("*sglang*", sglang),
        // For tests of the bed itself: `command: [sh, -c, ...]`.
        ImageMap::as_given("busybox:*", PathBuf::from("/bin/sh")),
    ]
}

/// vLLM's server.
fn engine(command: &[String]) -> Option<Vec<String>> {
    behind(SERVER, command)
}

/// SGLang's server.
fn sglang(command: &[String]) -> Option<Vec<String>> {
    let engine = ["--sim-engine", "sglang"].map(str::to_owned);
    Some([engine.to_vec(), behind(SGLANG, command)?].concat())
}

/// What follows a server's module. Kthena gives it as words, or, to run something first, as a script for a shell, in
/// which nothing is quoted.
fn behind(module: &str, command: &[String]) -> Option<Vec<String>> {
    if let Some(at) = command.iter().position(|word| word == module) {
        return Some(command[at + 1..].to_vec());
    }
    let (_, after) = command.last()?.split_once(module)?;
    Some(after.split_whitespace().map(str::to_owned).collect())
}

fn worker(command: &[String]) -> Option<Vec<String>> {
    command
        .last()?
        .contains(WORKER)
        .then(|| vec!["--sim-role".to_owned(), "worker".to_owned()])
}

/// Kthena's runtime, which is always told the engine that it stands beside.
fn runtime(args: &[String]) -> Option<Vec<String>> {
    let told = args.iter().any(|word| word == "--engine");
    told.then(|| [&["--sim-role".to_owned(), "runtime".to_owned()], args].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn the_engine_gets_what_follows_the_module() {
        let plain = words(&[
            "python3",
            "-m",
            SERVER,
            "--model",
            "/m",
            "--served-model-name",
            "x",
        ]);
        let expected = words(&["--model", "/m", "--served-model-name", "x"]);
        assert_eq!(engine(&plain), Some(expected.clone()));
        let script = format!(
            "chmod u+x s.sh && s.sh leader && python3 -m {SERVER} --model /m --served-model-name x"
        );
        assert_eq!(engine(&words(&["bash", "-c", &script])), Some(expected));
        assert_eq!(engine(&words(&["sleep", "1"])), None);
        assert_eq!(engine(&[]), None);
    }

    #[test]
    fn sglang_is_told_that_it_is() {
        let command = words(&["python3", "-m", SGLANG, "--model-path", "/m"]);
        let expected = words(&["--sim-engine", "sglang", "--model-path", "/m"]);
        assert_eq!(sglang(&command), Some(expected));
        assert_eq!(sglang(&words(&["sleep", "1"])), None);
    }

    #[test]
    fn a_ray_worker_has_a_role_of_its_own() {
        let script = format!("chmod u+x s.sh && examples/{WORKER} --ray_address=a");
        assert_eq!(
            worker(&words(&["bash", "-c", &script])),
            Some(words(&["--sim-role", "worker"]))
        );
        assert_eq!(worker(&words(&["bash", "-c", "true"])), None);
    }
}
