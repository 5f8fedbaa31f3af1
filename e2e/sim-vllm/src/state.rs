//! What the server reports about itself: the load that tests set, and what it has served.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::args::Engine;

/// The body of `POST /sim`: every field that is given replaces what was set before.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    /// `vllm:num_requests_waiting`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<u64>,
    /// `vllm:num_requests_running`; unset, it is what really runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) running: Option<u64>,
    /// `vllm:kv_cache_usage_perc`, 0.0 to 1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kv_cache_usage: Option<f64>,
    /// Whether `/health` answers 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) healthy: Option<bool>,
    /// How long a completion takes until its first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delay_ms: Option<u64>,
}

impl Load {
    fn update(&mut self, new: Self) {
        self.waiting = new.waiting.or(self.waiting);
        self.running = new.running.or(self.running);
        self.kv_cache_usage = new.kv_cache_usage.or(self.kv_cache_usage);
        self.healthy = new.healthy.or(self.healthy);
        self.delay_ms = new.delay_ms.or(self.delay_ms);
    }
}

/// Shared by every handler.
#[derive(Debug)]
pub(crate) struct State {
    /// What tells this server from its peers: the pod's name.
    pub(crate) name: String,
    pub(crate) engine: Engine,
    pub(crate) model: String,
    pub(crate) served_names: Vec<String>,
    load: Mutex<Load>,
    requests: Mutex<BTreeMap<String, u64>>,
    running: AtomicU64,
    completions: AtomicU64,
}

impl State {
    pub(crate) fn new(
        name: String,
        engine: Engine,
        model: String,
        served_names: Vec<String>,
    ) -> Self {
        Self {
            name,
            engine,
            model,
            served_names,
            load: Mutex::default(),
            requests: Mutex::default(),
            running: AtomicU64::new(0),
            completions: AtomicU64::new(0),
        }
    }

    pub(crate) fn load(&self) -> Load {
        *lock(&self.load)
    }

    pub(crate) fn set_load(&self, new: Load) -> Load {
        let mut load = lock(&self.load);
        load.update(new);
        *load
    }

    pub(crate) fn count(&self, path: &str) {
        *lock(&self.requests).entry(path.to_owned()).or_default() += 1;
    }

    pub(crate) fn requests(&self) -> BTreeMap<String, u64> {
        lock(&self.requests).clone()
    }

    /// The number of the next completion, which makes its id.
    pub(crate) fn next_completion(&self) -> u64 {
        self.completions.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn running(&self) -> u64 {
        self.load()
            .running
            .unwrap_or_else(|| self.running.load(Ordering::Relaxed))
    }
}

/// A completion that runs, until it is dropped: also when the client goes away.
pub(crate) struct Running(std::sync::Arc<State>);

impl Running {
    pub(crate) fn start(state: std::sync::Arc<State>) -> Self {
        state.running.fetch_add(1, Ordering::Relaxed);
        Self(state)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// No holder of these locks can leave its data half written, so a poisoned one is as good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
