//! A cache of one kind: what its watch has said, and what we wrote since.
//!
//! It is not kube's reflector, because that tells nobody what was deleted while a watch was away, keeps
//! the objects of a kind that is no longer served, and cannot take the answer to a write of ours before
//! the watch brings it.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use kube::core::ObjectMeta;
use kube::runtime::watcher::Event;

/// What can be cached.
pub(crate) trait Cached {
    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// The keys under which it is found beside its name.
    fn index(&self) -> Vec<String>;
    /// Whether it differs in more than its resource version.
    fn differs(&self, other: &Self) -> bool;
}

/// An object before and after.
#[derive(Debug)]
pub(crate) struct Change<K> {
    /// Before; nothing when it is new.
    pub old: Option<Arc<K>>,
    /// After; nothing when it is gone.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// What there is of before and after.
    pub(crate) fn both(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.iter().chain(&self.new)
    }
}

/// Namespace and name.
type Key = (String, String);

/// A cache of one kind.
#[derive(Debug)]
pub(crate) struct Cache<K> {
    state: RwLock<State<K>>,
    synced: AtomicBool,
}

#[derive(Debug)]
struct State<K> {
    objects: HashMap<Key, Arc<K>>,
    index: HashMap<String, BTreeSet<Key>>,
    /// What a list that is under way has brought so far.
    listed: HashMap<Key, Arc<K>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            state: RwLock::new(State {
                objects: HashMap::new(),
                index: HashMap::new(),
                listed: HashMap::new(),
            }),
            synced: AtomicBool::new(false),
        }
    }
}

fn key_of(metadata: &ObjectMeta) -> Key {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// Whether `a` is an older version of the object than `b`. Resource versions of one object can be compared
/// as numbers. <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>
pub(crate) fn is_older(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    let number = |m: &ObjectMeta| {
        m.resource_version
            .as_ref()
            .and_then(|v| v.parse::<u64>().ok())
    };
    a.uid == b.uid && number(a).zip(number(b)).is_some_and(|(a, b)| a < b)
}

impl<K: Cached> Cache<K> {
    /// The object of this name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state
            .objects
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// The objects under an index key.
    pub(crate) fn indexed(&self, key: &str) -> Vec<Arc<K>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let keys = state.index.get(key).into_iter().flatten();
        keys.filter_map(|key| state.objects.get(key).cloned())
            .collect()
    }

    /// Every object.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.objects.values().cloned().collect()
    }

    /// Whether the kind is served and was listed once.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Takes what a watch says, and tells what that changes.
    pub(crate) fn take(&self, event: Event<K>) -> Vec<Change<K>> {
        let mut state = self.write();
        match event {
            Event::Init => {
                state.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                let key = key_of(object.metadata());
                state.listed.insert(key, Arc::new(object));
                Vec::new()
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut state.listed);
                let gone: Vec<Key> = state
                    .objects
                    .keys()
                    .filter(|k| !listed.contains_key(*k))
                    .cloned()
                    .collect();
                let mut changes: Vec<Change<K>> =
                    gone.iter().filter_map(|key| state.remove(key)).collect();
                changes.extend(listed.into_values().filter_map(|object| state.put(object)));
                self.synced.store(true, Ordering::Release);
                changes
            }
            Event::Apply(object) => state.put(Arc::new(object)).into_iter().collect(),
            Event::Delete(object) => state
                .remove(&key_of(object.metadata()))
                .into_iter()
                .collect(),
        }
    }

    /// Takes the answer to a write of ours, and tells what that changes.
    pub(crate) fn written(&self, object: K) -> Option<Change<K>> {
        self.write().put(Arc::new(object))
    }

    /// Takes that we deleted an object, or found it gone, and tells what that changes.
    pub(crate) fn gone(&self, namespace: &str, name: &str) -> Option<Change<K>> {
        self.write()
            .remove(&(namespace.to_owned(), name.to_owned()))
    }

    /// Forgets everything: the kind is no longer served.
    pub(crate) fn clear(&self) -> Vec<Change<K>> {
        self.synced.store(false, Ordering::Release);
        let mut state = self.write();
        let keys: Vec<Key> = state.objects.keys().cloned().collect();
        keys.iter().filter_map(|key| state.remove(key)).collect()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        // Nothing panics while it holds the lock, and if it did, the watch would mend the cache.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Cached> State<K> {
    fn put(&mut self, object: Arc<K>) -> Option<Change<K>> {
        let key = key_of(object.metadata());
        if let Some(old) = self.objects.get(&key) {
            if is_older(object.metadata(), old.metadata()) {
                return None;
            }
            if !object.differs(old) {
                self.objects.insert(key, object);
                return None;
            }
        }
        let old = self.remove(&key).and_then(|change| change.old);
        for index in object.index() {
            self.index.entry(index).or_default().insert(key.clone());
        }
        self.objects.insert(key, Arc::clone(&object));
        Some(Change {
            old,
            new: Some(object),
        })
    }

    fn remove(&mut self, key: &Key) -> Option<Change<K>> {
        let old = self.objects.remove(key)?;
        for index in old.index() {
            if let Some(keys) = self.index.get_mut(&index) {
                keys.remove(key);
                if keys.is_empty() {
                    self.index.remove(&index);
                }
            }
        }
        Some(Change {
            old: Some(old),
            new: None,
        })
    }
}
