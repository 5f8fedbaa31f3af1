//! `/metrics` in Prometheus' text format, with the names and labels that vLLM or SGLang gives them.
//!
//! These are the ones that an endpoint picker reads: <https://docs.vllm.ai/en/latest/usage/metrics.html>

use std::fmt::Write as _;

use crate::args::Engine;
use crate::state::State;

pub(crate) fn text(state: &State) -> String {
    let load = state.load();
    let model = state
        .served_names
        .first()
        .map_or(String::new(), |name| escape(name));
    let labels = format!("engine=\"0\",model_name=\"{model}\"");
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, labels: &str, value: &dyn std::fmt::Display| {
        // Writing to a String can't fail.
        let _ = writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{{labels}}} {value}"
        );
    };
    let names = match state.engine {
        Engine::Vllm => [
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "vllm:kv_cache_usage_perc",
        ],
        Engine::SgLang => [
            "sglang:num_running_reqs",
            "sglang:num_queue_reqs",
            "sglang:token_usage",
        ],
    };
    let [running, waiting, usage] = names;
    gauge(
        running,
        "Number of requests in model execution batches.",
        &labels,
        &state.running(),
    );
    gauge(
        waiting,
        "Number of requests waiting to be processed.",
        &labels,
        &load.waiting.unwrap_or_default(),
    );
    gauge(
        usage,
        "KV-cache usage. 1 means 100 percent usage.",
        &labels,
        &load.kv_cache_usage.unwrap_or_default(),
    );
    if state.engine == Engine::SgLang {
        return out;
    }
    gauge(
        "vllm:cache_config_info",
        "Information of the LLMEngine CacheConfig",
        "block_size=\"16\",cache_dtype=\"auto\",engine=\"0\",num_gpu_blocks=\"1024\"",
        &1,
    );
    // Its value is the time of the last change, by which readers choose among several label sets.
    gauge(
        "vllm:lora_requests_info",
        "Running stats on lora requests.",
        "max_lora=\"0\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"",
        &crate::openai::now(),
    );
    out
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
