//! The flags of `annotate`, each of which is an annotation.

use std::collections::BTreeMap;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use kthena_bridge_api::annotation as key;

/// What is to be set and taken off. Values are checked as a whole, with those that stay, by the operator's
/// own rules.
#[derive(Args, Default)]
#[command(next_help_heading = "Annotations")]
pub(crate) struct Settings {
    /// Attach to this Gateway, or to one listener of it. May be given several times.
    #[arg(
        long,
        value_name = "[NAMESPACE/]NAME[:LISTENER]",
        value_delimiter = ','
    )]
    gateway: Vec<String>,
    /// Serve this host. May be given several times.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    hostname: Vec<String>,
    /// Serve this path prefix, which is cut off before the engine sees the request.
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// A name that clients may send in place of the Model's own. May be given several times.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    model_name: Vec<String>,
    /// Match the header X-Gateway-Model-Name, too.
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = PossibleValuesParser::new(["true", "false"]))]
    match_model: Option<String>,
    /// The priority of requests with the header x-gateway-inference-objective: MODEL.
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    priority: Option<String>,
    /// How long a request may take, such as 30s; 0s is without limit.
    #[arg(long, value_name = "DURATION")]
    request_timeout: Option<String>,
    /// What the Gateway does without its endpoint picker.
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(["FailOpen", "FailClose"]))]
    failure_mode: Option<String>,
    /// `managed`, or the Service of an endpoint picker that somebody else runs.
    #[arg(long, value_name = "managed|SERVICE[:PORT]")]
    endpoint_picker: Option<String>,
    /// The port that the engine serves on.
    #[arg(long, value_name = "PORT")]
    target_port: Option<String>,
    /// A label of the pods that get requests. May be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pod_selector: Vec<String>,
    /// Leave all objects as they are.
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = PossibleValuesParser::new(["true", "false"]))]
    paused: Option<String>,
    /// Take the Model off the Gateway. Its other annotations stay, for the next time.
    #[arg(long)]
    unexpose: bool,
    /// Take off what was set: the operator's default counts again.
    #[arg(long, value_name = "FLAG", value_enum, value_delimiter = ',', num_args = 1..)]
    reset: Vec<Setting>,
}

/// A flag, by which it can be reset.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Setting {
    Gateway,
    #[value(alias = "hostnames")]
    Hostname,
    Path,
    #[value(alias = "model-names")]
    ModelName,
    MatchModel,
    Priority,
    RequestTimeout,
    FailureMode,
    EndpointPicker,
    TargetPort,
    PodSelector,
    Paused,
    /// Everything below kthena-bridge.io/ but whether it is exposed, unknown keys included.
    All,
}

impl Setting {
    fn key(self) -> Option<&'static str> {
        Some(match self {
            Self::Gateway => key::GATEWAY,
            Self::Hostname => key::HOSTNAMES,
            Self::Path => key::PATH,
            Self::ModelName => key::MODEL_NAMES,
            Self::MatchModel => key::MATCH_MODEL,
            Self::Priority => key::PRIORITY,
            Self::RequestTimeout => key::REQUEST_TIMEOUT,
            Self::FailureMode => key::FAILURE_MODE,
            Self::EndpointPicker => key::ENDPOINT_PICKER,
            Self::TargetPort => key::TARGET_PORT,
            Self::PodSelector => key::POD_SELECTOR,
            Self::Paused => key::PAUSED,
            Self::All => return None,
        })
    }
}

impl Settings {
    /// The annotations to set.
    fn set(&self) -> impl Iterator<Item = (&'static str, String)> {
        let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
        [
            (key::GATEWAY, list(&self.gateway)),
            (key::HOSTNAMES, list(&self.hostname)),
            (key::PATH, self.path.clone()),
            (key::MODEL_NAMES, list(&self.model_name)),
            (key::MATCH_MODEL, self.match_model.clone()),
            (key::PRIORITY, self.priority.clone()),
            (key::REQUEST_TIMEOUT, self.request_timeout.clone()),
            (key::FAILURE_MODE, self.failure_mode.clone()),
            (key::ENDPOINT_PICKER, self.endpoint_picker.clone()),
            (key::TARGET_PORT, self.target_port.clone()),
            (key::POD_SELECTOR, list(&self.pod_selector)),
            (key::PAUSED, self.paused.clone()),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
    }

    /// The annotations that an object has then. It is exposed, unless it is to be taken off, or something
    /// is only reset.
    pub(crate) fn applied_to(&self, before: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut after = before.clone();
        for setting in &self.reset {
            match setting.key() {
                Some(key) => drop(after.remove(key)),
                None => after.retain(|name, _| !key::is_ours(name) || name == key::EXPOSE),
            }
        }
        let mut set = self.set().peekable();
        let only_reset = set.peek().is_none() && !self.reset.is_empty();
        for (key, value) in set {
            after.insert(key.to_owned(), value);
        }
        if self.unexpose {
            after.remove(key::EXPOSE);
        } else if !only_reset {
            after.insert(key::EXPOSE.to_owned(), "true".to_owned());
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    /// The annotations after these flags, without the prefix.
    fn after(before: &[(&str, &str)], flags: &[&str]) -> Vec<(String, String)> {
        let before = before
            .iter()
            .map(|(key, value)| (format!("kthena-bridge.io/{key}"), (*value).to_owned()))
            .collect();
        let line = Line::try_parse_from([&["x"], flags].concat()).unwrap();
        let after = line.settings.applied_to(&before).into_iter();
        after
            .map(|(key, value)| (key.replace("kthena-bridge.io/", ""), value))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn every_flag_is_its_annotation() {
        let flags = [
            "--gateway=a",
            "--gateway=b/c:d",
            "--hostname=x.y,z.y",
            "--path=/p",
            "--model-name=m",
            "--match-model",
            "--priority",
            "-1",
            "--request-timeout=1m",
            "--failure-mode=FailClose",
            "--endpoint-picker=s:1",
            "--target-port=1",
            "--pod-selector=k=v",
            "--pod-selector=l=w",
            "--paused=false",
        ];
        let all = pairs(&[
            ("endpoint-picker", "s:1"),
            ("expose", "true"),
            ("failure-mode", "FailClose"),
            ("gateway", "a,b/c:d"),
            ("hostnames", "x.y,z.y"),
            ("match-model", "true"),
            ("model-names", "m"),
            ("path", "/p"),
            ("paused", "false"),
            ("pod-selector", "k=v,l=w"),
            ("priority", "-1"),
            ("request-timeout", "1m"),
            ("target-port", "1"),
        ]);
        assert_eq!(after(&[], &flags), all);
        assert_eq!(all.len(), key::ALL.len(), "an annotation has no flag");
    }

    #[test]
    fn every_annotation_can_be_reset() {
        let settings = Setting::value_variants().iter().filter_map(|s| s.key());
        let mut keys: Vec<&str> = settings.chain([key::EXPOSE]).collect();
        let mut all = key::ALL.to_vec();
        keys.sort_unstable();
        all.sort_unstable();
        assert_eq!(keys, all);
    }

    #[test]
    fn without_flags_it_is_exposed_and_what_is_set_stays() {
        assert_eq!(
            after(&[("path", "/p"), ("expose", "false")], &[]),
            pairs(&[("expose", "true"), ("path", "/p")])
        );
    }

    #[test]
    fn resetting_and_unexposing_take_off_what_they_name() {
        let before = [
            ("expose", "true"),
            ("path", "/p"),
            ("priority", "1"),
            ("pth", "typo"),
        ];
        assert_eq!(
            after(&before, &["--reset", "path", "priority"]),
            pairs(&[("expose", "true"), ("pth", "typo")])
        );
        assert_eq!(
            after(&before, &["--reset=all"]),
            pairs(&[("expose", "true")])
        );
        assert_eq!(
            after(&before, &["--unexpose"]),
            pairs(&[("path", "/p"), ("priority", "1"), ("pth", "typo")])
        );
        assert_eq!(after(&before, &["--unexpose", "--reset=all"]), []);
        assert_eq!(
            after(&[("path", "/p")], &["--reset=path"]),
            [],
            "nothing is exposed by a reset"
        );
    }
}
