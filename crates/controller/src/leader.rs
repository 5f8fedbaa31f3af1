//! Which of several operators works: the one that holds a Lease. The others keep their caches and wait.
//!
//! As in client-go, clocks of different machines are never compared: whoever waits takes the Lease when it
//! has not changed for its duration by the own clock. The holder counts from before it sent its last
//! renewal, by a clock that goes on while the machine is suspended, so that it stops before another begins.
//! <https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::Either;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use rustix::time::{ClockId, clock_gettime};

use crate::error::Error;
use crate::request::answer_within;
use crate::retry::jittered;

/// How long a holder may be silent.
const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// How soon it is looked at again by one who waits, and tried again when a renewal failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(3);

/// A Lease to hold while working.
#[derive(Clone, Debug)]
pub struct LeaderElection {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who this is: a name that no other process has at the same time, such as that of the Pod.
    pub identity: String,
}

/// Until when this process may write: nanoseconds by the clock since boot.
#[derive(Debug)]
pub(crate) struct Leadership(AtomicU64);

impl Leadership {
    /// Of a process that needs no Lease.
    pub(crate) fn without_lease() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// Of a process that has none yet.
    pub(crate) fn not_yet() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether a request may be started now.
    pub(crate) fn is_held(&self) -> bool {
        nanoseconds(since_boot()) < self.0.load(Ordering::Acquire)
    }

    fn hold_until(&self, until: Duration) {
        self.0.store(nanoseconds(until), Ordering::Release);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// It goes on while the machine is suspended, which [`std::time::Instant`] does not on Linux.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

/// Takes a Lease, and keeps it.
pub(crate) struct Elector {
    api: Api<Lease>,
    election: LeaderElection,
    leadership: Arc<Leadership>,
}

/// A Lease as it was seen last, and since when it is so.
struct Seen {
    holder: String,
    version: Option<String>,
    since: Duration,
}

impl Elector {
    /// `client` sends whatever it is given, also while the Lease is not held.
    pub(crate) fn new(
        client: Client,
        election: LeaderElection,
        leadership: Arc<Leadership>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &election.namespace),
            election,
            leadership,
        }
    }

    /// Waits until the Lease is taken.
    pub(crate) async fn acquire(&self) -> Lease {
        let mut seen = None;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(Some(lease)) => return lease,
                Ok(None) => {}
                Err(error) if error.status().is_some_and(|s| s.code == 409) => {}
                Err(error) => {
                    tracing::warn!(%error, "the Lease cannot be taken; it is tried again");
                }
            }
            tokio::time::sleep(jittered(RETRY)).await;
        }
    }

    async fn try_acquire(&self, seen: &mut Option<Seen>) -> Result<Option<Lease>, Error> {
        let name = &self.election.name;
        let found = answer_within(LIMIT, || self.naming("get"), self.api.get_opt(name)).await?;
        let Some(lease) = found else {
            return self.write(None).await.map(Some);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let version = lease.metadata.resource_version.clone();
        let now = since_boot();
        let last = seen.as_ref();
        if last.is_none_or(|last| last.version != version) {
            // Not at each of its renewals.
            let told = last.is_some_and(|last| last.holder == holder);
            if !told && !holder.is_empty() && holder != self.election.identity {
                tracing::info!(holder, "somebody else holds the Lease; waiting for it");
            }
            *seen = Some(Seen {
                holder: holder.to_owned(),
                version,
                since: now,
            });
        }
        let allowed = spec.lease_duration_seconds.unwrap_or_default();
        let allowed = Duration::from_secs(u64::try_from(allowed).unwrap_or_default());
        let silent = seen
            .as_ref()
            .is_some_and(|seen| now.saturating_sub(seen.since) >= allowed);
        if holder.is_empty() || holder == self.election.identity || silent {
            return self.write(Some(lease)).await.map(Some);
        }
        Ok(None)
    }

    /// Renews the Lease for as long as nobody else has it; tells why it is lost.
    pub(crate) async fn keep(&self, mut lease: Lease) -> Error {
        let mut wait = RENEW;
        loop {
            tokio::time::sleep(wait).await;
            wait = RETRY;
            match self.write(Some(lease.clone())).await {
                Ok(renewed) => {
                    lease = renewed;
                    wait = RENEW;
                }
                Err(error) if error.status().is_some_and(|s| s.code == 409) => {
                    // Our own renewal may have been written without an answer.
                    match self.look().await {
                        Ok(Either::Left(ours)) => lease = ours,
                        Ok(Either::Right(holder)) => return self.lost(&format!("{holder} has it")),
                        Err(error) => tracing::warn!(%error, "the Lease cannot be looked at"),
                    }
                }
                Err(error) => tracing::warn!(%error, "the Lease was not renewed"),
            }
            if !self.leadership.is_held() {
                return self.lost("it could not be renewed in time");
            }
        }
    }

    /// The Lease if it is ours, else its holder.
    async fn look(&self) -> Result<Either<Lease, String>, Error> {
        let name = &self.election.name;
        let found = answer_within(LIMIT, || self.naming("get"), self.api.get_opt(name)).await?;
        let holder = |lease: &Lease| lease.spec.as_ref()?.holder_identity.clone();
        let Some(lease) = found else {
            return Ok(Either::Right("nobody".to_owned()));
        };
        match holder(&lease) {
            Some(holder) if holder == self.election.identity => Ok(Either::Left(lease)),
            other => Ok(Either::Right(other.unwrap_or_default())),
        }
    }

    fn lost(&self, why: &str) -> Error {
        self.leadership.hold_until(Duration::ZERO);
        Error::LeaseLost {
            namespace: self.election.namespace.clone(),
            name: self.election.name.clone(),
            why: why.to_owned(),
        }
    }

    /// Gives the Lease to whoever waits, when nothing more is written.
    pub(crate) async fn release(&self) {
        self.leadership.hold_until(Duration::ZERO);
        let released = async {
            if let Either::Left(mut lease) = self.look().await? {
                let spec = lease.spec.get_or_insert_default();
                spec.holder_identity = None;
                self.replace(&lease).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = released.await {
            tracing::warn!(%error, "the Lease is not given back; another takes it when it has expired");
        }
    }

    /// Takes or renews the Lease; a version in between makes it fail.
    async fn write(&self, lease: Option<Lease>) -> Result<Lease, Error> {
        let begun = since_boot();
        let mut lease = lease.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.election.name.clone()),
                namespace: Some(self.election.namespace.clone()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        });
        let spec = lease.spec.get_or_insert_default();
        let now = MicroTime(Timestamp::now());
        if spec.holder_identity.as_deref() != Some(&self.election.identity) {
            *spec = LeaseSpec {
                acquire_time: Some(now.clone()),
                lease_transitions: Some(spec.lease_transitions.map_or(0, |n| n.saturating_add(1))),
                ..LeaseSpec::default()
            };
        }
        spec.holder_identity = Some(self.election.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        let lease = self.replace(&lease).await?;
        self.leadership.hold_until(begun + DURATION);
        Ok(lease)
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, Error> {
        let params = PostParams::default();
        if lease.metadata.resource_version.is_none() {
            let created = self.api.create(&params, lease);
            return answer_within(LIMIT, || self.naming("create"), created).await;
        }
        let replaced = self.api.replace(&self.election.name, &params, lease);
        answer_within(LIMIT, || self.naming("update"), replaced).await
    }

    fn naming(&self, verb: &str) -> String {
        let LeaderElection {
            namespace, name, ..
        } = &self.election;
        format!("{verb} Lease {namespace}/{name}")
    }
}
