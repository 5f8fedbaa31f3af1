//! The names under which an engine serves its Model, as vLLM and SGLang read them from their command lines.
//!
//! A ModelServer's `spec.model` is no source: it is the Model's name where none is set, and vLLM then
//! serves the path of the weights.
//! <https://docs.vllm.ai/en/latest/configuration/serve_args.html>

use crate::names::hex;
use kthena_bridge_api::kthena::{ModelBackend, ModelServing, PodTemplateSpec};
use md5::{Digest, Md5};
use serde_json::Value;

/// The served names in the entry pods of a role; empty when its engine's command does not say.
pub(super) fn of_serving(serving: &ModelServing, role: &str) -> Vec<String> {
    let roles = &serving.spec.template.roles;
    let role = match roles.as_slice() {
        [only] => Some(only),
        several => several.iter().find(|r| r.name == role),
    };
    role.map(|r| of_pod(&r.entry_template.spec))
        .unwrap_or_default()
}

fn of_pod(pod: &PodTemplateSpec) -> Vec<String> {
    let engine = pod.containers.iter().find(|c| c.name == "engine");
    // The runtime beside the engine has a --model too, of its own meaning.
    let containers: Vec<_> = match engine {
        Some(engine) => vec![engine],
        None => pod
            .containers
            .iter()
            .filter(|c| c.name != "runtime")
            .collect(),
    };
    containers
        .into_iter()
        .map(|c| of_command(c.command.iter().chain(&c.args).flat_map(|word| words(word))))
        .find(|names| !names.is_empty())
        .unwrap_or_default()
}

/// A word may be a whole shell command: that is how multi-node engines are started.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_ascii_whitespace()
        .map(|word| word.trim_matches(['"', '\'']))
}

fn of_command<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let words: Vec<&str> = words.collect();
    let values = |flag: &str| -> Vec<String> {
        // The last one counts, as for argparse.
        let Some(at) = words
            .iter()
            .rposition(|w| w.split('=').next().map(dashed).as_deref() == Some(flag))
        else {
            return Vec::new();
        };
        match words[at].split_once('=') {
            Some((_, value)) => vec![value.to_owned()],
            None => words[at + 1..]
                .iter()
                .take_while(|w| !w.starts_with('-') && !matches!(**w, "&&" | ";" | "|"))
                .map(|w| (*w).to_owned())
                .collect(),
        }
    };
    let served = values("--served-model-name");
    if served.is_empty() {
        // vLLM serves under what --model says, even where that is a path, and SGLang under --model-path.
        let model = ["--model", "--model-path"].map(values);
        model.into_iter().flatten().take(1).collect()
    } else {
        served
    }
}

/// vLLM takes `_` for `-` in its flags.
fn dashed(flag: &str) -> String {
    flag.replace('_', "-")
}

/// The served name of an engine that Kthena would start from this backend.
/// <https://github.com/volcano-sh/kthena/blob/v1.0.0/pkg/model-booster-controller/convert/model_serving.go>
pub(super) fn of_backend(backend: &ModelBackend) -> Vec<String> {
    let config = backend
        .workers
        .first()
        .and_then(|w| w.config.as_ref())
        .and_then(Value::as_object);
    let named = config
        .into_iter()
        .flatten()
        .find(|(key, _)| key.replace('_', "-") == "served-model-name");
    match named.and_then(|(_, value)| value.as_str()) {
        Some(names) => words(names).map(str::to_owned).collect(),
        None => vec![format!(
            "{}/{}",
            cache_path(&backend.cache_uri),
            hex(&Md5::digest(&backend.model_uri))
        )],
    }
}

fn cache_path(uri: &str) -> String {
    match uri.split_once("://") {
        Some((_, path)) => format!("/{}", path.trim_matches('/')),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(command: &[&str]) -> Vec<String> {
        of_command(command.iter().flat_map(|w| words(w)))
    }

    #[test]
    fn the_flag_wins_over_the_path() {
        assert_eq!(
            names(&[
                "vllm",
                "--model",
                "/m",
                "--served-model-name",
                "a",
                "b",
                "--port",
                "1"
            ]),
            ["a", "b"]
        );
        assert_eq!(names(&["--served_model_name=a", "--model=/m"]), ["a"]);
        assert_eq!(
            names(&[
                "python3",
                "-m",
                "vllm.entrypoints.openai.api_server",
                "--model",
                "/m/1"
            ]),
            ["/m/1"]
        );
        assert_eq!(names(&["sleep", "1"]), [] as [&str; 0]);
    }

    #[test]
    fn a_shell_command_is_read_too() {
        let shell = "serve.sh leader --ray_cluster_size=2 && python3 -m vllm --model /m --served-model-name \"q w\" && true";
        assert_eq!(names(&["bash", "-c", shell]), ["q", "w"]);
    }

    #[test]
    fn without_a_name_kthena_serves_the_path_of_the_weights() {
        let backend = ModelBackend {
            model_uri: "hf://Qwen/Qwen2.5-0.5B-Instruct".to_owned(),
            cache_uri: "hostpath://tmp/cache".to_owned(),
            ..ModelBackend::default()
        };
        assert_eq!(
            of_backend(&backend),
            ["/tmp/cache/18488ba95d6e1baca4a2755a6748053e"]
        );
    }
}
