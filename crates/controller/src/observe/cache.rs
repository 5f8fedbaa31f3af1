//! A cache of one kind: what its watch has said, and what we wrote since.
//!
//! It is not kube's reflector, because that tells nobody what was deleted while a watch was away, keeps
//! the objects of a kind that is no longer served, and cannot take the answer to a write of ours before
//! the watch brings it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use kthena_bridge_core::observe::Metadata;
use kube::core::ObjectMeta;
use kube::runtime::watcher::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::packed::{Packed, Samples};
use crate::namespaced_name::NamespacedName;

/// What can be cached.
pub(crate) trait Cached: Serialize + DeserializeOwned + PartialEq {
    /// Whether there are few of them, each looked at for many Models.
    const SHARED: bool = false;
    /// Which version of which object it is.
    fn identity(&self) -> Identity<'_>;
    /// The kinds and names of its owners.
    fn owners(&self) -> impl Iterator<Item = (&str, &str)>;
    /// The keys under which it is found beside its name.
    fn index(&self) -> Vec<String>;
    /// Whether it differs in more than its resource version.
    fn differs(&self, other: &Self) -> bool;
}

/// Which version of which object something is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) uid: Option<&'a str>,
    pub(crate) version: Option<&'a str>,
}

impl<'a> From<&'a ObjectMeta> for Identity<'a> {
    fn from(metadata: &'a ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            name: metadata.name.as_deref().unwrap_or_default(),
            uid: metadata.uid.as_deref(),
            version: metadata.resource_version.as_deref(),
        }
    }
}

impl<'a> From<&'a Metadata> for Identity<'a> {
    fn from(metadata: &'a Metadata) -> Self {
        Self {
            namespace: &metadata.namespace,
            name: &metadata.name,
            uid: metadata.uid.as_deref(),
            version: metadata.resource_version.as_deref(),
        }
    }
}

impl Identity<'_> {
    fn key(self) -> NamespacedName {
        NamespacedName::new(self.namespace, self.name)
    }

    /// Whether this is certainly the same version of the object as `other`, or an older one.
    fn is_known_from(self, other: Self) -> bool {
        let same = (self.uid, self.version) == (other.uid, other.version);
        same && self.version.is_some() || self.is_older(other)
    }

    /// Whether this is an older version of the object than `other`. Resource versions of one object can be
    /// compared as numbers. <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>
    pub(crate) fn is_older(self, other: Self) -> bool {
        let number = |one: Self| one.version.and_then(|v| v.parse::<u64>().ok());
        self.uid == other.uid && number(self).zip(number(other)).is_some_and(|(a, b)| a < b)
    }
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

/// Where a watch looks: in the namespace of this name, or everywhere when it is empty.
pub(crate) type Scope = String;

/// A cache of one kind.
#[derive(Debug)]
pub(crate) struct Cache<K> {
    scopes: Vec<Scope>,
    state: RwLock<State<K>>,
    synced: AtomicBool,
}

#[derive(Debug)]
struct State<K> {
    objects: HashMap<NamespacedName, Packed<K>>,
    samples: Samples,
    /// Under which keys which objects are found: the hashes of the keys, all in one set, since a set for each would
    /// be most of the cache.
    index: BTreeSet<(u64, NamespacedName)>,
    hasher: RandomState,
    /// What the lists that are under way have brought so far: the rest is gone when they are complete.
    listed: HashMap<Scope, HashSet<NamespacedName>>,
    /// The scopes that were not listed yet.
    unlisted: HashSet<Scope>,
    /// The uids of objects that ended a moment ago.
    ended: HashSet<String>,
    /// When they did, the first one first.
    ends: VecDeque<(Instant, String)>,
}

/// Longer than the answer to a write can be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(30);

impl<K: Cached> Cache<K> {
    /// A cache of what watches of these scopes say.
    pub(crate) fn of(scopes: &[Scope]) -> Self {
        Self {
            scopes: scopes.to_vec(),
            state: RwLock::new(State {
                objects: HashMap::new(),
                samples: Samples::default(),
                index: BTreeSet::new(),
                hasher: RandomState::new(),
                listed: HashMap::new(),
                unlisted: scopes.iter().cloned().collect(),
                ended: HashSet::new(),
                ends: VecDeque::new(),
            }),
            synced: AtomicBool::new(false),
        }
    }

    /// The object of this name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.named(&NamespacedName::new(namespace, name))
    }

    /// The object of this name.
    pub(crate) fn named(&self, name: &NamespacedName) -> Option<Arc<K>> {
        self.read().get(name)
    }

    /// The objects under an index key.
    pub(crate) fn indexed(&self, key: &str) -> Vec<Arc<K>> {
        let state = self.read();
        let hash = state.hasher.hash_one(key);
        let found = state.index.range((hash, NamespacedName::default())..);
        found
            .take_while(|(index, _)| *index == hash)
            .filter_map(|(_, name)| state.get(name))
            .filter(|object| object.index().iter().any(|own| own == key))
            .collect()
    }

    /// The names of all objects.
    pub(crate) fn names(&self) -> Vec<NamespacedName> {
        self.read().objects.keys().cloned().collect()
    }

    /// Whether it has this version of this object, or a later one.
    pub(crate) fn has(&self, object: Identity<'_>) -> bool {
        let known = self.read().get(&object.key());
        known.is_some_and(|known| object.is_known_from(known.identity()))
    }

    /// Whether the kind is served and was listed once, in every scope.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Takes what the watch of a scope says, and tells what that changes, one by one: whoever reads meanwhile does
    /// not wait for a list.
    pub(crate) fn take(&self, scope: &str, event: Event<K>, mut tell: impl FnMut(&Change<K>)) {
        let mut tell = |change: Option<Change<K>>| change.iter().for_each(&mut tell);
        match event {
            Event::Init => {
                let listed = &mut self.write().listed;
                listed.insert(scope.to_owned(), HashSet::new());
            }
            Event::InitApply(object) => {
                let mut state = self.write();
                let listed = state.listed.entry(scope.to_owned()).or_default();
                listed.insert(object.identity().key());
                let change = state.put(&Arc::new(object));
                drop(state);
                tell(change);
            }
            Event::InitDone => {
                let mut state = self.write();
                let listed = state.listed.remove(scope).unwrap_or_default();
                let names = state.objects.keys();
                let gone = names
                    .filter(|name| scope.is_empty() || name.namespace() == scope)
                    .filter(|name| !listed.contains(*name));
                let gone: Vec<_> = gone.cloned().collect();
                drop(state);
                for name in gone {
                    let change = self.write().bury(&name);
                    tell(change);
                }
                let mut state = self.write();
                state.unlisted.remove(scope);
                if state.unlisted.is_empty() {
                    self.synced.store(true, Ordering::Release);
                }
            }
            Event::Apply(object) => {
                let change = self.write().put(&Arc::new(object));
                tell(change);
            }
            Event::Delete(object) => {
                let identity = object.identity();
                let mut state = self.write();
                state.ended(identity);
                let change = state.remove(&identity.key());
                drop(state);
                tell(change);
            }
        }
    }

    /// Takes the answer to a write of ours, and tells what that changes. The watch may have brought the end
    /// of the object before, and nothing would come after that.
    pub(crate) fn written(&self, object: K) -> Option<Change<K>> {
        let mut state = self.write();
        let uid = object.identity().uid;
        if uid.is_some_and(|uid| state.ended.contains(uid)) {
            return None;
        }
        state.put(&Arc::new(object))
    }

    /// Takes that we deleted an object, or found it gone, and tells what that changes.
    pub(crate) fn gone(&self, namespace: &str, name: &str) -> Option<Change<K>> {
        self.write().bury(&NamespacedName::new(namespace, name))
    }

    /// Forgets everything: the kind is no longer served.
    pub(crate) fn clear(&self) {
        self.synced.store(false, Ordering::Release);
        let mut state = self.write();
        state.unlisted = self.scopes.iter().cloned().collect();
        state.objects.clear();
        state.index.clear();
    }

    // Nothing panics while it holds the lock, and if it did, the watch would mend the cache.

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Cached> State<K> {
    fn get(&self, name: &NamespacedName) -> Option<Arc<K>> {
        self.samples.unpack(self.objects.get(name)?)
    }

    fn put(&mut self, object: &Arc<K>) -> Option<Change<K>> {
        let old = self.get(&object.identity().key());
        let known = |old: &Arc<K>| object.identity().is_known_from(old.identity());
        if old.as_ref().is_some_and(known) {
            return None;
        }
        let name = object.identity().key();
        let packed = if K::SHARED {
            Packed::Whole(Arc::clone(object))
        } else {
            self.samples.pack(object)
        };
        let differs = old.as_ref().is_none_or(|old| object.differs(old));
        if differs {
            if let Some(old) = &old {
                self.find(old, &name, false);
            }
            self.find(object, &name, true);
        }
        self.objects.insert(name, packed);
        differs.then(|| Change {
            old,
            new: Some(Arc::clone(object)),
        })
    }

    /// Has an object found under its index keys, or no longer.
    fn find(&mut self, object: &K, name: &NamespacedName, found: bool) {
        for key in object.index() {
            let key = (self.hasher.hash_one(key.as_str()), name.clone());
            if found {
                self.index.insert(key);
            } else {
                self.index.remove(&key);
            }
        }
    }

    /// Removes an object that is no more.
    fn bury(&mut self, name: &NamespacedName) -> Option<Change<K>> {
        let change = self.remove(name)?;
        if let Some(old) = &change.old {
            self.ended(old.identity());
        }
        Some(change)
    }

    fn ended(&mut self, identity: Identity<'_>) {
        let now = Instant::now();
        let is_old = |end: &mut (Instant, String)| now.duration_since(end.0) > ON_ITS_WAY;
        while let Some((_, uid)) = self.ends.pop_front_if(is_old) {
            self.ended.remove(&uid);
        }
        if let Some(uid) = identity.uid
            && self.ended.insert(uid.to_owned())
        {
            self.ends.push_back((now, uid.to_owned()));
        }
    }

    fn remove(&mut self, name: &NamespacedName) -> Option<Change<K>> {
        let packed = self.objects.remove(name)?;
        let old = self.samples.unpack(&packed)?;
        self.find(&old, name, false);
        Some(Change {
            old: Some(old),
            new: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Object(ObjectMeta);

    impl Cached for Object {
        fn identity(&self) -> Identity<'_> {
            (&self.0).into()
        }
        fn owners(&self) -> impl Iterator<Item = (&str, &str)> {
            std::iter::empty()
        }
        fn index(&self) -> Vec<String> {
            Vec::new()
        }
        fn differs(&self, _: &Self) -> bool {
            true
        }
    }

    fn object(namespace: &str, name: &str) -> Object {
        Object(ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        })
    }

    /// Lists these of a scope, and tells what went.
    fn list(cache: &Cache<Object>, scope: &str, objects: &[(&str, &str)]) -> Vec<String> {
        take(cache, scope, Event::Init);
        for (namespace, name) in objects {
            take(cache, scope, Event::InitApply(object(namespace, name)));
        }
        let mut gone = Vec::new();
        cache.take(scope, Event::InitDone, |change| {
            let old = change.old.iter().filter(|_| change.new.is_none());
            gone.extend(old.filter_map(|old| old.0.name.clone()));
        });
        gone
    }

    fn take(cache: &Cache<Object>, scope: &str, event: Event<Object>) {
        cache.take(scope, event, |_| ());
    }

    #[test]
    fn the_list_of_one_namespace_says_nothing_of_another() {
        let cache = Cache::of(&["a".to_owned(), "b".to_owned()]);
        list(&cache, "a", &[("a", "one"), ("a", "two")]);
        assert!(!cache.is_synced(), "b was not listed yet");
        list(&cache, "b", &[("b", "three")]);
        assert!(cache.is_synced());
        assert_eq!(list(&cache, "a", &[("a", "two")]), ["one"]);
        assert_eq!(cache.names().len(), 2);
        cache.clear();
        list(&cache, "b", &[]);
        assert!(!cache.is_synced(), "a was not listed again");
    }

    #[test]
    fn lists_that_are_under_way_together_do_not_mix() {
        let cache = Cache::of(&["a".to_owned(), "b".to_owned()]);
        take(&cache, "a", Event::Init);
        take(&cache, "a", Event::InitApply(object("a", "one")));
        take(&cache, "b", Event::Init);
        take(&cache, "b", Event::InitApply(object("b", "two")));
        take(&cache, "a", Event::InitDone);
        take(&cache, "b", Event::InitDone);
        assert_eq!(cache.names().len(), 2);
    }

    #[test]
    fn the_answer_to_a_write_does_not_bring_back_what_has_ended_since() {
        let cache = Cache::of(&[Scope::new()]);
        let with_uid = |uid: &str| {
            let mut object = object("a", "one");
            object.0.uid = Some(uid.to_owned());
            object
        };
        take(&cache, "", Event::Apply(with_uid("1")));
        take(&cache, "", Event::Delete(with_uid("1")));
        assert!(cache.written(with_uid("1")).is_none());
        assert!(cache.get("a", "one").is_none());
        assert!(cache.written(with_uid("2")).is_some(), "it was made anew");
        cache.gone("a", "one");
        assert!(cache.written(with_uid("2")).is_none());
    }

    #[test]
    fn a_list_of_everything_tells_what_is_gone_anywhere() {
        let cache = Cache::of(&[Scope::new()]);
        list(&cache, "", &[("a", "one"), ("b", "two")]);
        assert_eq!(list(&cache, "", &[("b", "two")]), ["one"]);
    }
}
