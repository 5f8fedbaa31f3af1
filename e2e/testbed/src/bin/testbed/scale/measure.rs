//! What a process takes of the machine, and what the operator asks the API server for.

use std::collections::BTreeMap;
use std::time::Duration;

use testbed::audit::{Sent, Tail};
use testbed::{Error, Result};

/// The kernel's unit of a process's time: a hundredth of a second on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// A process, by what the kernel says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        std::fs::read_to_string(&path).map_err(|e| Error::Other(format!("reading {path}: {e}")))
    }

    /// Its resident memory in MiB.
    pub(crate) fn resident(self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most that it had, since it began.
    pub(crate) fn peak(self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(self, field: &str) -> Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
        let kib = kib.ok_or_else(|| Error::Other(format!("no {field} in {status}")))?;
        Ok(f64::from(kib) / 1024.0)
    }

    /// The time that it has run on any core.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The name, in parentheses, may have spaces in it. Behind it, the 12th and the 13th are what is wanted.
        // <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
        let ticks = fields.iter().flat_map(|rest| rest.split_whitespace());
        let ticks = ticks.skip(11).take(2).filter_map(|t| t.parse::<u32>().ok());
        Ok(TICK * ticks.sum::<u32>())
    }
}

/// The operator's requests, counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    /// All but those for its Lease.
    pub(crate) all: usize,
    /// Those that change something.
    pub(crate) writes: usize,
    /// Creates that were answered with 201, without Events.
    pub(crate) objects: usize,
    /// Writes of a Model's conditions.
    pub(crate) statuses: usize,
    /// Events.
    pub(crate) events: usize,
    /// Those that were not answered with 2xx.
    pub(crate) failed: usize,
    /// The lists that were begun, by resource.
    pub(crate) lists: BTreeMap<String, usize>,
    /// The paths of the watches that were begun.
    pub(crate) watches: Vec<String>,
    /// By verb and resource.
    pub(crate) by_kind: BTreeMap<String, usize>,
}

impl Counted {
    /// Counts on with what came since.
    pub(crate) fn read(&mut self, tail: &mut Tail) -> Result<()> {
        for sent in tail.read()? {
            self.add(sent);
        }
        Ok(())
    }

    /// What came since, alone.
    pub(crate) fn next(tail: &mut Tail) -> Result<Self> {
        let mut counted = Self::default();
        counted.read(tail)?;
        Ok(counted)
    }

    /// Counts what was counted elsewhere.
    pub(crate) fn add_all(&mut self, other: Self) {
        self.all += other.all;
        self.writes += other.writes;
        self.objects += other.objects;
        self.statuses += other.statuses;
        self.events += other.events;
        self.failed += other.failed;
        for (mine, theirs) in [
            (&mut self.lists, other.lists),
            (&mut self.by_kind, other.by_kind),
        ] {
            for (key, count) in theirs {
                *mine.entry(key).or_default() += count;
            }
        }
        self.watches.extend(other.watches);
    }

    fn add(&mut self, sent: Sent) {
        let request = &sent.request;
        if request.resource == "leases" {
            return;
        }
        self.all += 1;
        let resource = format!("{}.{}", request.resource, request.group);
        *self
            .by_kind
            .entry(format!("{} {resource}", request.verb))
            .or_default() += 1;
        self.failed += usize::from(!(200..300).contains(&request.code));
        match request.verb.as_str() {
            "list" if !sent.is_further_page() => *self.lists.entry(resource).or_default() += 1,
            "watch" => {
                if sent.is_streamed_list() {
                    *self.lists.entry(resource).or_default() += 1;
                }
                self.watches.push(sent.uri);
            }
            _ => {}
        }
        if request.writes() {
            self.writes += 1;
            match request.resource.as_str() {
                "events" => self.events += 1,
                "modelboosters/status" | "modelexposures/status" => self.statuses += 1,
                _ => self.objects += usize::from(request.code == 201),
            }
        }
    }
}

/// Durations, in milliseconds, by the nearest rank.
pub(crate) fn quantile(took: &[Duration], percent: usize) -> Option<f64> {
    let mut sorted = took.to_vec();
    sorted.sort();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted
        .get(rank - 1)
        .map(|d| (d.as_secs_f64() * 1e5).round() / 100.0)
}

/// A number of things, to calculate with.
pub(crate) fn number(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

/// With two digits behind the point, since more is noise.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// How busy the machine is, over the last minute: what disturbs a measurement shows here.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_time() {
        let own = Process(std::process::id());
        assert!(own.resident().unwrap() > 0.5);
        assert!(own.peak().unwrap() >= own.resident().unwrap() / 2.0);
        assert!(own.cpu().unwrap() < Duration::from_hours(1));
    }

    #[test]
    fn the_nearest_rank_is_taken() {
        let took: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&took, 50), Some(50.0));
        assert_eq!(quantile(&took, 99), Some(99.0));
        assert_eq!(quantile(&took[..1], 99), Some(1.0));
        assert_eq!(quantile(&[], 99), None);
    }
}
