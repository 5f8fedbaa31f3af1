//! What a route does with a request: where it goes and how it is changed on the way.

use serde_json::{Map, Value, json};

use super::{Options, Xds, cluster, listener::EXT_PROC, picker_cluster, route::Path};
use crate::{
    api::{HeaderModifier, HttpRouteRule, InferencePool, UrlRewrite},
    backend::{self, Backend},
    snapshot::{Key, Snapshot},
};

/// A cluster that is never there: its share of the requests is answered 500.
const UNRESOLVED: &str = "unresolved";

/// The route but for its match.
pub(super) fn of_rule(
    xds: &mut Xds,
    snapshot: &Snapshot,
    route: &Key,
    rule: &HttpRouteRule,
    path: Path<'_>,
    options: &Options,
) -> Value {
    let known = ["URLRewrite", "RequestHeaderModifier"];
    if let Some(filter) = rule
        .filters
        .iter()
        .find(|filter| !known.contains(&filter.r#type.as_str()))
    {
        return error(&format!("the stand-in has no filter {}", filter.r#type));
    }
    let mut destinations = Vec::new();
    for reference in rule
        .backend_refs
        .iter()
        .filter(|reference| reference.weight != Some(0))
    {
        let destination = match backend::resolve(snapshot, route, reference) {
            Ok(found) => Destination::of(xds, snapshot, &found, options),
            Err(_) => Destination {
                cluster: UNRESOLVED.to_owned(),
                filters: Map::new(),
            },
        };
        destinations.push((destination, reference.weight.unwrap_or(1)));
    }
    if destinations
        .iter()
        .all(|(destination, _)| destination.cluster == UNRESOLVED)
    {
        return error("");
    }

    let mut action = json!({
        // Without this Envoy's own limit would be 15 s.
        "timeout": rule.timeouts.request.as_deref().and_then(seconds).unwrap_or_else(|| "0s".to_owned()),
        "cluster_not_found_response_code": "INTERNAL_SERVER_ERROR",
        "retry_policy": retries(),
    });
    let mut result = json!({});
    if let [(destination, _)] = destinations.as_slice() {
        action["cluster"] = json!(destination.cluster);
        result["typed_per_filter_config"] = json!(destination.filters);
    } else {
        let clusters: Vec<_> = destinations
            .into_iter()
            .map(|(d, weight)| json!({"name": d.cluster, "weight": weight, "typed_per_filter_config": d.filters}))
            .collect();
        action["weighted_clusters"] = json!({"clusters": clusters});
    }
    for filter in &rule.filters {
        if let Some(rewrite) = &filter.url_rewrite {
            rewrite_url(&mut action, rewrite, path);
        }
        if let Some(headers) = &filter.request_header_modifier {
            modify_headers(&mut result, headers);
        }
    }
    result["route"] = action;
    result
}

struct Destination {
    cluster: String,
    filters: Map<String, Value>,
}

impl Destination {
    fn of(xds: &mut Xds, snapshot: &Snapshot, backend: &Backend<'_>, options: &Options) -> Self {
        match backend {
            Backend::Service { key, port } => Self {
                cluster: cluster::add_service(xds, snapshot, key, port, options),
                filters: Map::new(),
            },
            Backend::Pool { key, pool } => {
                let cluster = cluster::add_pool(xds, snapshot, key, pool, options);
                let filters = ext_proc(key, pool)
                    .map(|config| (EXT_PROC.to_owned(), config))
                    .into_iter()
                    .collect();
                Self { cluster, filters }
            }
        }
    }
}

fn error(message: &str) -> Value {
    json!({"direct_response": {"status": 500, "body": {"inline_string": message}}})
}

/// Hands the request to the pool's endpoint picker.
/// <https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/http/ext_proc/v3/ext_proc.proto>
fn ext_proc(key: &Key, pool: &InferencePool) -> Option<Value> {
    let picker = picker_cluster(key, pool)?;
    // The API's default is FailClose.
    let open = pool
        .spec
        .endpoint_picker_ref
        .as_ref()?
        .failure_mode
        .as_deref()
        == Some("FailOpen");
    Some(json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
        "overrides": {
            "grpc_service": {"envoy_grpc": {"cluster_name": picker}},
            "failure_mode_allow": open,
            "processing_mode": {
                "request_header_mode": "SEND", "response_header_mode": "SEND",
                "request_body_mode": "FULL_DUPLEX_STREAMED", "response_body_mode": "FULL_DUPLEX_STREAMED",
                "request_trailer_mode": "SEND", "response_trailer_mode": "SEND",
            },
            "metadata_options": {"receiving_namespaces": {"untyped": ["envoy.lb"]}},
        },
    }))
}

/// The retries that Istio gives every HTTP route.
/// <https://istio.io/latest/docs/concepts/traffic-management/#retries>
fn retries() -> Value {
    json!({
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,reset-before-request",
        "num_retries": 2,
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            },
        }],
        "host_selection_retry_max_attempts": "5",
    })
}

fn rewrite_url(action: &mut Value, rewrite: &UrlRewrite, path: Path<'_>) {
    if let Some(hostname) = &rewrite.hostname {
        action["host_rewrite_literal"] = json!(hostname);
    }
    let Some(modifier) = &rewrite.path else {
        return;
    };
    if let Some(whole) = &modifier.replace_full_path {
        action["regex_rewrite"] = regex_rewrite("^/.*$", whole);
    }
    // The API takes ReplacePrefixMatch only where the match is a PathPrefix.
    if let (Some(new), Path::Prefix(old)) = (&modifier.replace_prefix_match, path) {
        let new = new.trim_end_matches('/');
        match (old, new) {
            ("", "") => {}
            ("", new) => action["prefix_rewrite"] = json!(format!("{new}/")),
            // Envoy replaces just the prefix, and `/a/b` with `/` for `/a` would be `//b`: the slashes
            // after the prefix go with it.
            (old, "") => {
                action["regex_rewrite"] = regex_rewrite(&format!("^{}/*", literal(old)), "/");
            }
            (_, new) => action["prefix_rewrite"] = json!(new),
        }
    }
}

/// Envoy applies it to the path without its query string.
fn regex_rewrite(pattern: &str, substitution: &str) -> Value {
    json!({"pattern": {"regex": pattern}, "substitution": substitution.replace('\\', "\\\\")})
}

/// A regular expression that matches this text.
fn literal(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            (!c.is_ascii_alphanumeric() && c.is_ascii())
                .then_some('\\')
                .into_iter()
                .chain([c])
        })
        .collect()
}

fn modify_headers(route: &mut Value, modifier: &HeaderModifier) {
    let set = modifier
        .set
        .iter()
        .map(|header| (header, "OVERWRITE_IF_EXISTS_OR_ADD"));
    let add = modifier
        .add
        .iter()
        .map(|header| (header, "APPEND_IF_EXISTS_OR_ADD"));
    let headers: Vec<_> = set
        .chain(add)
        .map(|(header, action)| {
            json!({"header": {"key": header.name, "value": header.value}, "append_action": action})
        })
        .collect();
    if !headers.is_empty() {
        route["request_headers_to_add"] = json!(headers);
    }
    if !modifier.remove.is_empty() {
        route["request_headers_to_remove"] = json!(modifier.remove);
    }
}

/// A Gateway API duration, such as `1h2m3s4ms`, as Envoy writes it: `3723.004s`.
/// <https://gateway-api.sigs.k8s.io/geps/gep-2257/>
fn seconds(duration: &str) -> Option<String> {
    let mut rest = duration;
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        millis += number.parse::<u64>().ok()? * unit;
        rest = after;
    }
    Some(format!("{}.{:03}s", millis / 1_000, millis % 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_become_seconds() {
        assert_eq!(seconds("300s").unwrap(), "300.000s");
        assert_eq!(seconds("1h2m3s4ms").unwrap(), "3723.004s");
        assert_eq!(seconds("500ms").unwrap(), "0.500s");
        assert_eq!(seconds("0s").unwrap(), "0.000s");
        assert_eq!(seconds("5"), None);
        assert_eq!(seconds("5x"), None);
    }

    #[test]
    fn a_prefix_is_taken_literally() {
        assert_eq!(literal("/a.b"), "\\/a\\.b");
    }
}
