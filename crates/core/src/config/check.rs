//! What no single field can tell: whether the fields of a configuration go together.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kthena_bridge_api::plugins_config::PluginsConfig;
use kthena_bridge_api::text::{Cidr, quote};
use serde_json::{Map, Value};

use super::picker::{EndpointPickerConfig, Flavour};
use super::pod::{
    EnvVar, LabelSelector, LabelSelectorOperator, NetworkPolicyPeer, TaintEffect, Toleration,
    TolerationOperator,
};
use super::{Config, InvalidConfig};
use crate::exposure::defaults;

/// Flags that the operator sets, by which a picker finds its Model and is found.
const TIED: [&str; 15] = [
    "pool-name",
    "pool-namespace",
    "pool-group",
    "endpoint-selector",
    "endpoint-target-ports",
    "config-file",
    "config-text",
    "grpc-port",
    "grpc-health-port",
    "metrics-port",
    "ha-enable-leader-election",
    "health-checking",
    // The Gateways speak TLS to it.
    "secure-serving",
    "cert-path",
    "kubeconfig",
];
/// Environment variables that the operator sets.
const SET: [&str; 2] = ["NAMESPACE", "POD_NAME"];

type Checked = Result<(), InvalidConfig>;

fn refuse(field: impl Into<String>, problem: impl Into<String>) -> Checked {
    Err(InvalidConfig {
        field: field.into(),
        problem: problem.into(),
    })
}

pub(super) fn check(config: &Config) -> Checked {
    let value = |field: &str, checked: Result<(), String>| match checked {
        Ok(()) => Ok(()),
        Err(problem) => refuse(field, problem),
    };
    if let Some(gateways) = &config.default_gateway {
        value("defaultGateway", defaults::gateway(gateways.as_str()))?;
    }
    if let Some(template) = &config.hostname_template {
        value("hostnameTemplate", defaults::hostname(template.as_str()))?;
    }
    if let Some(template) = &config.path_template {
        value("pathTemplate", defaults::path(template.as_str()))?;
    }
    let mut known = BTreeSet::new();
    for (at, gateway) in config.gateways.iter().enumerate() {
        if !known.insert((&gateway.namespace, &gateway.name)) {
            return refuse(
                format!("gateways[{at}].name"),
                format!(
                    "Gateway {}/{} is named twice; keep one",
                    gateway.namespace.as_str(),
                    gateway.name.as_str()
                ),
            );
        }
    }
    config.endpoint_picker.check()
}

pub(super) fn picker(picker: &EndpointPickerConfig) -> Checked {
    const AT: &str = "endpointPicker";
    version(picker)?;
    if picker.replicas.get() > 5 {
        return refuse(
            format!("{AT}.replicas"),
            format!(
                "is {}, and one is active; 1 to 5 are allowed",
                picker.replicas
            ),
        );
    }
    for (resource, limit) in &picker.resources.limits {
        let request = picker.resources.requests.get(resource);
        if let Some(request) = request.filter(|request| request.exceeds(*limit)) {
            return refuse(
                format!("{AT}.resources.requests.{}", resource.as_str()),
                format!(
                    "is {request}, more than resources.limits.{}, which is {limit}",
                    resource.as_str()
                ),
            );
        }
    }
    for (at, argument) in picker.args.iter().enumerate() {
        if TIED.contains(&argument.flag()) {
            return refuse(
                format!("{AT}.args[{at}]"),
                format!("--{} is the operator's to set; remove it", argument.flag()),
            );
        }
    }
    let mut names = BTreeSet::new();
    for (at, variable) in picker.env.iter().enumerate() {
        env(variable, &format!("{AT}.env[{at}]"))?;
        if !names.insert(&variable.name) {
            return refuse(
                format!("{AT}.env[{at}].name"),
                format!("{} is set twice; keep one", variable.name.as_str()),
            );
        }
    }
    for (at, one) in picker.tolerations.iter().enumerate() {
        toleration(one, &format!("{AT}.tolerations[{at}]"))?;
    }
    plugins(&picker.plugins_config, picker.flavour)?;
    let policy = &picker.network_policy;
    for (field, peers) in [
        ("gateways", &policy.gateways),
        ("metrics", &policy.metrics),
        ("moreEgress", &policy.more_egress),
    ] {
        for (at, one) in peers.iter().enumerate() {
            peer(one, &format!("{AT}.networkPolicy.{field}[{at}]"))?;
        }
    }
    if policy.api_server_ports.is_empty() {
        return refuse(
            format!("{AT}.networkPolicy.apiServerPorts"),
            "is empty, and a picker does nothing without the API server; name its ports",
        );
    }
    Ok(())
}

fn version(picker: &EndpointPickerConfig) -> Checked {
    let of_tag = || {
        picker
            .image
            .as_ref()
            .and_then(kthena_bridge_api::text::Image::version)
    };
    let (field, version) = match &picker.version {
        Some(version) => ("version", version.clone()),
        None => match of_tag() {
            Some(version) => ("image", version),
            None => return Ok(()),
        },
    };
    if picker.flavour.knows(version.numbers()) {
        return Ok(());
    }
    let flavour = picker.flavour.as_str();
    refuse(
        format!("endpointPicker.{field}"),
        format!(
            "{} is no version of the flavour {flavour} that is known: {} are; set \
             endpointPicker.flavour, or endpointPicker.version where the image's tag is none",
            quote(version.as_str()),
            picker.flavour.range()
        ),
    )
}

fn env(variable: &EnvVar, at: &str) -> Checked {
    if SET.contains(&variable.name.as_str()) {
        return refuse(
            format!("{at}.name"),
            format!(
                "{} is the operator's to set; remove it",
                variable.name.as_str()
            ),
        );
    }
    match (&variable.value, &variable.value_from) {
        (Some(_), Some(_)) => refuse(at, "has both value and valueFrom; keep one"),
        _ => Ok(()),
    }
}

fn toleration(toleration: &Toleration, at: &str) -> Checked {
    let exists = toleration.operator == Some(TolerationOperator::Exists);
    if exists
        && toleration
            .value
            .as_ref()
            .is_some_and(|value| !value.as_str().is_empty())
    {
        return refuse(
            format!("{at}.value"),
            "has no meaning with the operator Exists; remove it",
        );
    }
    if !exists && toleration.key.is_none() {
        return refuse(
            format!("{at}.key"),
            "is missing; name one, or set the operator Exists for every taint",
        );
    }
    if toleration.toleration_seconds.is_some() && toleration.effect != Some(TaintEffect::NoExecute)
    {
        return refuse(
            format!("{at}.tolerationSeconds"),
            "counts only with the effect NoExecute; set that, or remove it",
        );
    }
    Ok(())
}

fn plugins(given: &PluginsConfig, flavour: Flavour) -> Checked {
    const AT: &str = "endpointPicker.pluginsConfig";
    let other = match flavour {
        Flavour::Gie => given
            .request_handler
            .as_ref()
            .map(|_| ("requestHandler", "parser")),
        Flavour::LlmD => given.parser.as_ref().map(|_| ("parser", "requestHandler")),
    };
    if let Some((field, instead)) = other {
        return refuse(
            format!("{AT}.{field}"),
            format!(
                "is not known to the flavour {}; use {instead}",
                flavour.as_str()
            ),
        );
    }
    let all = given.with_defaults();
    let mut names = BTreeSet::new();
    for (at, plugin) in all.plugins.iter().flatten().enumerate() {
        let field = format!("{AT}.plugins[{at}]");
        if plugin.r#type.is_empty() {
            return refuse(format!("{field}.type"), "is empty; name a type of plugin");
        }
        if !names.insert(plugin.name()) {
            return refuse(
                field,
                format!("{} is there twice; give each a name", quote(plugin.name())),
            );
        }
    }
    let known = |name: &str, field: String| {
        if names.contains(name) {
            return Ok(());
        }
        let all: Vec<&str> = names.iter().copied().collect();
        refuse(
            field,
            format!(
                "{} is no plugin of pluginsConfig.plugins; there are {}",
                quote(name),
                all.join(", ")
            ),
        )
    };
    let profiles = all.scheduling_profiles.unwrap_or_default();
    if profiles.is_empty() {
        return refuse(
            format!("{AT}.schedulingProfiles"),
            "is empty; name at least one profile",
        );
    }
    for (at, profile) in profiles.iter().enumerate() {
        for (nth, plugin) in profile.plugins.iter().enumerate() {
            let field = format!("{AT}.schedulingProfiles[{at}].plugins[{nth}].pluginRef");
            known(&plugin.plugin_ref, field)?;
        }
    }
    for (part, field) in [
        (&given.data_layer, "dataLayer"),
        (&given.parser, "parser"),
        (&given.request_handler, "requestHandler"),
    ] {
        for (name, path) in part.iter().flat_map(|part| references(part, field)) {
            known(&name, format!("{AT}.{path}"))?;
        }
    }
    Ok(())
}

/// Every `pluginRef` in a part of the configuration, with its path.
fn references(part: &Map<String, Value>, path: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (key, value) in part {
        let path = format!("{path}.{key}");
        match value {
            Value::String(name) if key == "pluginRef" => found.push((name.clone(), path)),
            Value::Object(inner) => found.extend(references(inner, &path)),
            Value::Array(all) => {
                for (at, inner) in all.iter().enumerate() {
                    if let Value::Object(inner) = inner {
                        found.extend(references(inner, &format!("{path}[{at}]")));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn peer(peer: &NetworkPolicyPeer, at: &str) -> Checked {
    let pods = peer.namespace_selector.is_some() || peer.pod_selector.is_some();
    match &peer.ip_block {
        Some(_) if pods => {
            return refuse(
                at,
                "has both ipBlock and a selector; make two peers of them",
            );
        }
        None if !pods => {
            return refuse(
                at,
                "is empty; give it namespaceSelector, podSelector or ipBlock",
            );
        }
        Some(block) => {
            cidr(&block.cidr, &format!("{at}.ipBlock.cidr"))?;
            for (nth, range) in block.except.iter().enumerate() {
                cidr(range, &format!("{at}.ipBlock.except[{nth}]"))?;
            }
        }
        None => {}
    }
    for (field, chosen) in [
        ("namespaceSelector", &peer.namespace_selector),
        ("podSelector", &peer.pod_selector),
    ] {
        if let Some(chosen) = chosen {
            selector(chosen, &format!("{at}.{field}"))?;
        }
    }
    Ok(())
}

fn selector(selector: &LabelSelector, at: &str) -> Checked {
    for (nth, wanted) in selector.match_expressions.iter().enumerate() {
        let among = matches!(
            wanted.operator,
            LabelSelectorOperator::In | LabelSelectorOperator::NotIn
        );
        if among == wanted.values.is_empty() {
            return refuse(
                format!("{at}.matchExpressions[{nth}].values"),
                if among {
                    "is empty, and In and NotIn need values; name them"
                } else {
                    "has no meaning with Exists and DoesNotExist; remove it"
                },
            );
        }
    }
    Ok(())
}

fn cidr(cidr: &Cidr, at: &str) -> Checked {
    let fits = cidr
        .as_str()
        .split_once('/')
        .is_some_and(|(address, bits)| {
            let longest = address
                .parse::<IpAddr>()
                .map(|address| if address.is_ipv4() { 32 } else { 128 });
            longest.is_ok_and(|longest| bits.parse::<u8>().is_ok_and(|bits| bits <= longest))
        });
    if fits {
        return Ok(());
    }
    refuse(
        at,
        format!(
            "{} is not a range of addresses, such as 10.0.0.0/8",
            quote(cidr.as_str())
        ),
    )
}
