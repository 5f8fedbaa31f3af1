//! The command line: vLLM's own, or SGLang's, of which almost everything is ignored.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::ParseIntError,
};

/// The flags that count, beside that for the served names.
const KNOWN: [&str; 6] = [
    "sim-role",
    "sim-engine",
    "host",
    "port",
    "model",
    "model-path",
];
/// The model that vLLM serves when it is told none.
const DEFAULT_MODEL: &str = "Qwen/Qwen3-0.6B";

/// Which of a model server's processes this one plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// The OpenAI-compatible server.
    #[default]
    Engine,
    /// Kthena's runtime sidecar, which has a port but no inference API.
    Runtime,
    /// A Ray worker: a process without a port.
    Worker,
}

/// Which engine this one plays: their metrics have other names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Engine {
    /// vLLM.
    #[default]
    Vllm,
    /// SGLang.
    SgLang,
}

/// What counts of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) role: Role,
    pub(crate) engine: Engine,
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    /// The names that a client may send; the first one labels the metrics. Never empty.
    pub(crate) served_names: Vec<String>,
    /// The model's path, which `/v1/models` reports as `root`.
    pub(crate) model: String,
}

/// A value that this server needs and can't read.
#[derive(Debug)]
pub(crate) struct BadValue {
    flag: &'static str,
    value: String,
}

impl std::fmt::Display for BadValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} does not take {:?}", self.flag, self.value)
    }
}

impl std::error::Error for BadValue {}

impl Args {
    /// Reads a command line without its program name.
    ///
    /// By hand, since vLLM has hundreds of flags, with and without values, and every one must pass.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, BadValue> {
        let mut role = Role::default();
        let mut engine = Engine::default();
        let mut host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let mut port = None;
        let mut model = None;
        let mut served_names = Vec::new();

        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            // `vllm serve MODEL` is the form without --model.
            if word == "serve" && model.is_none() {
                model = words.next_if(|next| !next.starts_with('-'));
                continue;
            }
            let Some(flag) = word.strip_prefix("--") else {
                continue;
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            // vLLM reads --served_model_name as --served-model-name.
            let name = name.replace('_', "-");
            let many = name == "served-model-name";
            if !many && !KNOWN.contains(&name.as_str()) {
                continue;
            }
            let mut values: Vec<String> = inline.into_iter().collect();
            while (values.is_empty() || many)
                && let Some(value) = words.next_if(|next| !next.starts_with("--"))
            {
                values.push(value);
            }
            if many {
                served_names = values;
                continue;
            }
            let value = values.pop().unwrap_or_default();
            match name.as_str() {
                "sim-role" => {
                    role = match value.as_str() {
                        "engine" => Role::Engine,
                        "runtime" => Role::Runtime,
                        "worker" => Role::Worker,
                        _ => {
                            return Err(BadValue {
                                flag: "--sim-role",
                                value,
                            });
                        }
                    }
                }
                "sim-engine" => {
                    engine = match value.as_str() {
                        "vllm" => Engine::Vllm,
                        "sglang" => Engine::SgLang,
                        _ => {
                            return Err(BadValue {
                                flag: "--sim-engine",
                                value,
                            });
                        }
                    }
                }
                // A host name would need DNS, which the test bed does not have.
                "host" => {
                    host = if value == "localhost" {
                        Ipv4Addr::LOCALHOST.into()
                    } else {
                        parse("--host", value)?
                    }
                }
                "port" => {
                    let read: Result<u16, ParseIntError> = value.parse();
                    port = Some(read.map_err(|_| BadValue {
                        flag: "--port",
                        value,
                    })?);
                }
                _ => model = Some(value),
            }
        }

        let model = model.unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        if served_names.is_empty() {
            served_names.push(model.clone());
        }
        let default_port = match (role, engine) {
            (Role::Runtime, _) => 8100,
            (_, Engine::SgLang) => 30000,
            _ => 8000,
        };
        Ok(Self {
            role,
            engine,
            host,
            port: port.unwrap_or(default_port),
            served_names,
            model,
        })
    }
}

fn parse<T: std::str::FromStr>(flag: &'static str, value: String) -> Result<T, BadValue> {
    value.parse().map_err(|_| BadValue { flag, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::parse(line.split_whitespace().map(str::to_owned)).unwrap()
    }

    #[test]
    fn flags_of_vllm_that_do_not_matter_are_ignored() {
        let read = args(
            "-m vllm.entrypoints.openai.api_server --model /models/qwen --trust-remote-code \
             --tensor-parallel-size 2 --enable-prefix-caching --max-model-len=4096 \
             --served-model-name Qwen demo --kv-transfer-config {\"a\":1} --port=9000 -O3",
        );
        assert_eq!(read.served_names, ["Qwen", "demo"]);
        assert_eq!(read.model, "/models/qwen");
        assert_eq!(read.port, 9000);
        assert_eq!(read.role, Role::Engine);
    }

    #[test]
    fn the_model_is_its_own_name_when_none_is_served() {
        assert_eq!(args("--model a/b").served_names, ["a/b"]);
        assert_eq!(args("serve a/b --port 1").served_names, ["a/b"]);
        assert_eq!(args("serve --port 1").served_names, [DEFAULT_MODEL]);
        assert_eq!(
            args("--served_model_name=x --model a/b").served_names,
            ["x"]
        );
    }

    #[test]
    fn the_other_roles_have_their_own_port() {
        assert_eq!(args("--sim-role runtime --engine vllm").port, 8100);
        assert_eq!(args("--sim-role=runtime --port 8200").port, 8200);
        assert_eq!(args("--sim-role worker").role, Role::Worker);
        assert_eq!(args("").port, 8000);
    }

    #[test]
    fn sglang_has_flags_and_a_port_of_its_own() {
        let read = args("--sim-engine sglang --model-path /weights --enable-metrics");
        assert_eq!((read.engine, read.port), (Engine::SgLang, 30000));
        assert_eq!(read.served_names, ["/weights"]);
    }

    #[test]
    fn a_port_that_is_none_is_refused() {
        let error = Args::parse(["--port".to_owned(), "http".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "--port does not take \"http\"");
    }
}
