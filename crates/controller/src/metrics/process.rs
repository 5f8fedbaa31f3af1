//! What the process uses, under the names that Prometheus has for it, as Linux tells. What cannot be found
//! out is left out.
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>

use std::fs;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use rustix::time::{ClockId, clock_gettime};

use super::gauge;

pub(super) fn now(registry: &mut Registry, started: Timestamp) {
    if let Ok(used) = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)) {
        let seconds = Counter::<f64, AtomicU64>::default();
        seconds.inc_by(used.as_secs_f64());
        registry.register("process_cpu_seconds", "CPU time", seconds);
    }
    gauge(
        registry,
        "process_start_time_seconds",
        "When the process started",
        started.as_duration().as_secs_f64(),
    );
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |name| number(&status, name).map(|kilobytes| kilobytes * 1024.0);
    let mut tell = |name, help, value: Option<f64>| {
        if let Some(value) = value {
            gauge(registry, name, help, value);
        }
    };
    tell(
        "process_resident_memory_bytes",
        "Memory that is used",
        kilobytes("VmRSS:"),
    );
    tell(
        "process_virtual_memory_bytes",
        "Memory that is reserved",
        kilobytes("VmSize:"),
    );
    // One of them is that of the folder.
    let open = fs::read_dir("/proc/self/fd").map(|files| files.count().saturating_sub(1));
    let open = open.ok().and_then(|open| u32::try_from(open).ok());
    tell(
        "process_open_fds",
        "Files that are open",
        open.map(f64::from),
    );
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    tell(
        "process_max_fds",
        "How many files may be open",
        number(&limits, "Max open files"),
    );
}

/// The first number of the line that begins like this.
fn number(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
