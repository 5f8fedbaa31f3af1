//! Tells GKE's load balancer how long a request may take: it refuses the timeouts of an HTTPRoute.
//! <https://cloud.google.com/kubernetes-engine/docs/how-to/configure-gateway-resources#configure_timeout>

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};

use super::Input;

/// The longest that there is, for no limit.
const LONGEST: u64 = 2_147_483_647;

pub(super) fn build(input: &Input<'_>) -> Value {
    let mut object = input.head(ChildKind::GCPBackendPolicy, &input.topology.names.model);
    object["spec"] = json!({
        "targetRef": input.pool_ref(),
        "default": {"timeoutSec": seconds(&input.exposure.request_timeout)},
    });
    object
}

/// A Gateway API duration in whole seconds, rounded up.
/// <https://gateway-api.sigs.k8s.io/geps/gep-2257/>
fn seconds(duration: &str) -> u64 {
    let mut millis = 0;
    let mut number = 0;
    let mut rest = duration.chars().peekable();
    while let Some(c) = rest.next() {
        let unit = match c {
            'h' => 3_600_000,
            'm' if rest.next_if_eq(&'s').is_some() => 1,
            'm' => 60_000,
            's' => 1_000,
            digit => {
                number = number * 10 + u64::from(digit.to_digit(10).unwrap_or_default());
                continue;
            }
        };
        millis += number * unit;
        number = 0;
    }
    match millis.div_ceil(1_000) {
        0 => LONGEST,
        seconds => seconds.min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_become_seconds() {
        let durations = [
            ("300s", 300),
            ("1h1m1s", 3661),
            ("500ms", 1),
            ("1m30s500ms", 91),
            ("0s", LONGEST),
        ];
        for (duration, expected) in durations {
            assert_eq!(seconds(duration), expected, "{duration}");
        }
    }
}
