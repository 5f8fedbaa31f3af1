//! The request that tells whether a Model can be reached through its Gateways, and what its answer means.

use kthena_bridge_api::condition::Reason;

use crate::hostname;
use crate::observe::{Cluster, PathMatch, Route};
use crate::report::Verdict;
use crate::topology::listeners;

/// What every OpenAI-compatible server answers without doing any work.
const REQUEST: &str = "v1/models";

/// Where a request is sent: once for each Gateway of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether it goes over TLS.
    pub tls: bool,
    /// The Gateway's address.
    pub address: String,
    /// The listener's port.
    pub port: u16,
    /// The host that is asked for.
    pub host: String,
    /// The path.
    pub path: String,
    /// Headers that the route matches.
    pub headers: Vec<(String, String)>,
}

impl Target {
    /// The base URL of the API there, as clients are configured with it: `http://HOST[:PORT][/PREFIX]/v1`.
    pub fn base_url(&self) -> String {
        let (scheme, usual) = if self.tls {
            ("https", 443)
        } else {
            ("http", 80)
        };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let port = if self.port == usual {
            String::new()
        } else {
            format!(":{}", self.port)
        };
        let path = self.path.strip_suffix("/models").unwrap_or(&self.path);
        format!("{scheme}://{host}{port}{path}")
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this status.
    Answered(u16),
    /// A connection, and no answer in time.
    Silent,
    /// No connection, or none any more.
    Failed(String),
    /// The certificate is not trusted.
    NotTrusted(String),
}

/// The requests for a route.
pub fn targets(route: &Route, cluster: &impl Cluster) -> Vec<Target> {
    let any = String::new();
    let wanted = route.hostnames.first().unwrap_or(&any);
    let Some(one) = route.matches.first() else {
        return Vec::new();
    };
    let PathMatch::Prefix(prefix) = &one.path else {
        return Vec::new();
    };
    let mut targets = Vec::new();
    for (namespace, name, section) in route.gateways() {
        let Some(gateway) = cluster.gateway(namespace, name) else {
            continue;
        };
        let Some(address) = gateway.status.as_ref().and_then(|s| s.addresses.first()) else {
            continue;
        };
        let mut fitting = listeners::of(&gateway, section)
            .filter(|l| listeners::speaks_http(l))
            .filter_map(|l| {
                let own = l.hostname.as_deref().unwrap_or_default();
                Some((l, hostname::intersection(own, wanted)?))
            });
        let Some((listener, host)) = fitting.next() else {
            continue;
        };
        targets.push(Target {
            tls: listener.protocol == "HTTPS",
            address: address.value.clone(),
            port: listener.port,
            host: match host.strip_prefix("*.") {
                _ if host.is_empty() => address.value.clone(),
                Some(rest) => format!("reachable.{rest}"),
                None => host.to_owned(),
            },
            path: format!("{}/{REQUEST}", prefix.trim_end_matches('/')),
            headers: one.headers.clone().into_iter().collect(),
        });
    }
    targets
}

/// What the outcomes say, the worst first.
pub fn verdict(outcomes: &[(Target, Outcome)]) -> Verdict {
    let told = outcomes.iter().map(|(target, outcome)| {
        let scheme = if target.tls { "https" } else { "http" };
        let asked = format!(
            "GET {scheme}://{}:{}{} (host {})",
            target.address, target.port, target.path, target.host
        );
        let (reason, what) = match outcome {
            Outcome::Answered(200..=299) => (Reason::Reachable, "was answered".to_owned()),
            Outcome::Answered(status @ (401 | 403 | 407)) => (
                Reason::AuthenticationRequired,
                format!(
                    "was answered with {status}; requests of the operator carry no credentials"
                ),
            ),
            Outcome::Answered(status) => (
                Reason::RequestFailed,
                format!("was answered with {status}; see Programmed first"),
            ),
            Outcome::Silent => (
                Reason::RequestFailed,
                "got no answer in time; see Programmed first".to_owned(),
            ),
            Outcome::Failed(why) => (
                Reason::ConnectionFailed,
                format!(
                    "got no answer: {why}; see whether the operator may connect to the Gateway"
                ),
            ),
            Outcome::NotTrusted(why) => (
                Reason::CertificateNotTrusted,
                format!(
                    "was given up: {why}; clients may trust another authority than the operator"
                ),
            ),
        };
        Verdict {
            reason,
            message: format!("{asked} {what}"),
        }
    });
    let severity = |verdict: &Verdict| match verdict.reason {
        Reason::RequestFailed => 0,
        Reason::Reachable => 2,
        _ => 1,
    };
    told.min_by_key(severity).unwrap_or_else(|| Verdict {
        reason: Reason::NotRequested,
        message: "there is no route, or no Gateway with an address, to send a request to"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kthena_bridge_api::gateway::Gateway;
    use serde_json::json;

    use super::*;
    use crate::observe::Objects;

    fn cluster() -> Objects {
        let gateway: Gateway = serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"namespace": "infra", "name": "g"},
            "spec": {"gatewayClassName": "c", "listeners": [
                {"name": "tcp", "port": 1, "protocol": "TCP"},
                {"name": "tls", "port": 443, "protocol": "HTTPS", "hostname": "*.example.com"},
                {"name": "plain", "port": 80, "protocol": "HTTP"},
            ]},
            "status": {"addresses": [{"value": "10.0.0.1"}]},
        }))
        .unwrap();
        Objects {
            gateways: vec![Arc::new(gateway)],
            ..Objects::default()
        }
    }

    fn route(section: Option<&str>, hosts: &[&str], path: &str) -> Route {
        Route::reduce(&json!({
            "metadata": {"namespace": "a", "name": "r"},
            "spec": {
                "parentRefs": [{"namespace": "infra", "name": "g", "sectionName": section}],
                "hostnames": hosts,
                "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": path}}]}],
            },
        }))
    }

    #[test]
    fn a_request_goes_to_the_first_listener_that_fits() {
        let target = |route: &Route| targets(route, &cluster()).pop().unwrap();
        let wildcard = target(&route(None, &[], "/"));
        assert_eq!((wildcard.tls, wildcard.port), (true, 443));
        assert_eq!(
            (wildcard.host.as_str(), wildcard.path.as_str()),
            ("reachable.example.com", "/v1/models")
        );
        let plain = target(&route(Some("plain"), &[], "/m"));
        assert_eq!(
            (plain.host.as_str(), plain.path.as_str()),
            ("10.0.0.1", "/m/v1/models")
        );
        assert_eq!(target(&route(None, &["m.example.org"], "/")).port, 80);
    }

    #[test]
    fn the_base_url_is_the_one_that_clients_are_given() {
        let url = |route: &Route| targets(route, &cluster()).pop().unwrap().base_url();
        assert_eq!(
            url(&route(Some("plain"), &[], "/m")),
            "http://10.0.0.1/m/v1"
        );
        assert_eq!(
            url(&route(Some("tls"), &["m.example.com"], "/")),
            "https://m.example.com/v1"
        );
        let other = Target {
            tls: false,
            address: "::1".to_owned(),
            port: 8080,
            host: "::1".to_owned(),
            path: "/v1/models".to_owned(),
            headers: Vec::new(),
        };
        assert_eq!(other.base_url(), "http://[::1]:8080/v1");
    }

    #[test]
    fn the_worst_outcome_counts() {
        let target = targets(&route(None, &[], "/"), &cluster()).pop().unwrap();
        let of = |outcomes: &[Outcome]| {
            let outcomes: Vec<_> = outcomes
                .iter()
                .map(|o| (target.clone(), o.clone()))
                .collect();
            verdict(&outcomes).reason
        };
        let refused = Outcome::Failed("connection refused".to_owned());
        assert_eq!(of(&[]), Reason::NotRequested);
        assert_eq!(of(&[Outcome::Silent]), Reason::RequestFailed);
        assert_eq!(of(&[Outcome::Answered(200)]), Reason::Reachable);
        assert_eq!(
            of(&[Outcome::Answered(200), Outcome::Answered(503)]),
            Reason::RequestFailed
        );
        assert_eq!(
            of(&[Outcome::Answered(200), Outcome::Answered(401)]),
            Reason::AuthenticationRequired
        );
        assert_eq!(
            of(&[Outcome::Answered(404), refused.clone()]),
            Reason::RequestFailed
        );
        assert_eq!(
            of(&[refused, Outcome::Answered(200)]),
            Reason::ConnectionFailed
        );
        assert_eq!(
            of(&[Outcome::NotTrusted("unknown issuer".to_owned())]),
            Reason::CertificateNotTrusted
        );
    }
}
