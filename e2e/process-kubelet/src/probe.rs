//! Probes: one look, and what a row of looks means.

use std::{net::Ipv4Addr, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{net::TcpStream, time::timeout};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::launch::Handle;

/// Kthena asks for delays of minutes, which a simulated model does not need.
const MAX_INITIAL_DELAY: Duration = Duration::from_secs(1);
/// The longest pause between two looks of a probe that has never succeeded.
const UNTIL_FIRST_SUCCESS: Duration = Duration::from_secs(1);

/// Counts successes and failures in a row until a threshold is reached.
#[derive(Debug)]
pub(crate) struct Streak {
    success_threshold: u32,
    failure_threshold: u32,
    good: bool,
    length: u32,
}

impl Streak {
    pub(crate) fn new(probe: &Probe) -> Self {
        let threshold = |value: Option<i32>, default| {
            value.and_then(|v| u32::try_from(v).ok()).unwrap_or(default)
        };
        Self {
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            good: false,
            length: 0,
        }
    }

    /// Adds one look. Gives the verdict while a threshold is reached.
    pub(crate) fn add(&mut self, good: bool) -> Option<bool> {
        self.length = if good == self.good {
            self.length.saturating_add(1)
        } else {
            1
        };
        self.good = good;
        let needed = if good {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        (self.length >= needed).then_some(good)
    }
}

/// How long to wait before the first look.
pub(crate) fn initial_delay(probe: &Probe) -> Duration {
    seconds(probe.initial_delay_seconds, 0).min(MAX_INITIAL_DELAY)
}

/// How long to wait between two looks.
pub(crate) fn period(probe: &Probe, succeeded_before: bool) -> Duration {
    let period = seconds(probe.period_seconds, 10);
    if succeeded_before {
        period
    } else {
        period.min(UNTIL_FIRST_SUCCESS)
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
}

/// Looks once.
pub(crate) async fn look(
    probe: &Probe,
    container: &Container,
    address: Ipv4Addr,
    process: &Handle,
) -> Result<(), String> {
    let limit = seconds(probe.timeout_seconds, 1);
    timeout(limit, look_unlimited(probe, container, address, process))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}

async fn look_unlimited(
    probe: &Probe,
    container: &Container,
    address: Ipv4Addr,
    process: &Handle,
) -> Result<(), String> {
    if let Some(exec) = &probe.exec {
        return process
            .exec(exec.command.as_deref().unwrap_or_default())
            .await;
    }
    if let Some(get) = &probe.http_get {
        if get.scheme.as_deref() == Some("HTTPS") {
            return Err("HTTPS probes are not supported by this kubelet".to_owned());
        }
        let host = get.host.clone().unwrap_or_else(|| address.to_string());
        let path = get.path.as_deref().unwrap_or("/");
        let url = format!(
            "http://{host}:{}/{}",
            port(&get.port, container)?,
            path.trim_start_matches('/')
        );
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(|e| e.to_string())?;
        let mut request = client.get(&url);
        for header in get.http_headers.iter().flatten() {
            request = request.header(&header.name, &header.value);
        }
        let status = request
            .send()
            .await
            .map_err(|e| format!("{url}: {e}"))?
            .status();
        return if status.as_u16() < 400 {
            Ok(())
        } else {
            Err(format!("{url}: {status}"))
        };
    }
    if let Some(socket) = &probe.tcp_socket {
        let host = socket.host.clone().unwrap_or_else(|| address.to_string());
        let to = format!("{host}:{}", port(&socket.port, container)?);
        return TcpStream::connect(&to)
            .await
            .map(drop)
            .map_err(|e| format!("{to}: {e}"));
    }
    if let Some(grpc) = &probe.grpc {
        let url = format!("http://{address}:{}", grpc.port);
        let endpoint =
            tonic::transport::Endpoint::from_shared(url.clone()).map_err(|e| e.to_string())?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|e| format!("{url}: {e}"))?;
        let request = HealthCheckRequest {
            service: grpc.service.clone().unwrap_or_default(),
        };
        let answer = HealthClient::new(channel)
            .check(request)
            .await
            .map_err(|e| format!("{url}: {e}"))?;
        let status = answer.into_inner().status();
        return if status == ServingStatus::Serving {
            Ok(())
        } else {
            Err(format!("{url}: {status:?}"))
        };
    }
    Err("the probe has no handler".to_owned())
}

/// A port by number, or by the name that the container gives it.
fn port(port: &IntOrString, container: &Container) -> Result<i32, String> {
    match port {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_ref() == Some(name));
            named
                .map(|port| port.container_port)
                .ok_or_else(|| format!("couldn't find port {name:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(json: serde_json::Value) -> Probe {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn one_success_is_enough_and_three_failures_are_needed() {
        let mut streak = Streak::new(&Probe::default());
        let verdicts: Vec<Option<bool>> = [true, false, false, true, false, false, false]
            .into_iter()
            .map(|good| streak.add(good))
            .collect();
        assert_eq!(
            verdicts,
            [Some(true), None, None, Some(true), None, None, Some(false)]
        );
    }

    #[test]
    fn thresholds_are_the_probes() {
        let mut streak = Streak::new(&probe(
            serde_json::json!({"successThreshold": 2, "failureThreshold": 1}),
        ));
        assert_eq!(
            [true, true, false].map(|good| streak.add(good)),
            [None, Some(true), Some(false)]
        );
    }

    #[test]
    fn long_delays_are_cut_and_periods_are_short_only_at_first() {
        let probe = probe(serde_json::json!({"initialDelaySeconds": 180, "periodSeconds": 5}));
        assert_eq!(initial_delay(&probe), Duration::from_secs(1));
        assert_eq!(initial_delay(&Probe::default()), Duration::ZERO);
        assert_eq!(period(&probe, false), Duration::from_secs(1));
        assert_eq!(period(&probe, true), Duration::from_secs(5));
    }

    #[test]
    fn a_port_may_be_named() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "ports": [{"name": "http", "containerPort": 80}]
        }))
        .unwrap();
        assert_eq!(
            port(&IntOrString::String("http".to_owned()), &container),
            Ok(80)
        );
        assert!(port(&IntOrString::String("grpc".to_owned()), &container).is_err());
    }
}
