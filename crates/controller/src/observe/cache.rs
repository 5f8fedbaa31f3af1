//! A cache of one kind: what its watch has said, and what we wrote since.
//!
//! It is not kube's reflector, because that tells nobody what was deleted while a watch was away, keeps
//! the objects of a kind that is no longer served, and cannot take the answer to a write of ours before
//! the watch brings it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};

use kthena_bridge_core::observe::Metadata;
use kube::core::ObjectMeta;
use kube::runtime::watcher::Event;

/// What can be cached.
pub(crate) trait Cached {
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
    fn key(self) -> Key {
        Arc::new((self.namespace.to_owned(), self.name.to_owned()))
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

/// Namespace and name. There are very many, and each is kept more than once.
type Key = Arc<(String, String)>;

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
    objects: HashMap<Key, Arc<K>>,
    /// Under which keys which objects are found: one set for all, since a set for each would be most of the cache.
    index: BTreeSet<(String, Key)>,
    /// What the lists that are under way have brought so far.
    listed: HashMap<Scope, HashMap<Key, Arc<K>>>,
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
                index: BTreeSet::new(),
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
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state
            .objects
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// The objects under an index key.
    pub(crate) fn indexed(&self, key: &str) -> Vec<Arc<K>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let first = (key.to_owned(), Key::default());
        let found = state.index.range(first..);
        found
            .take_while(|(index, _)| index == key)
            .filter_map(|(_, key)| state.objects.get(key).cloned())
            .collect()
    }

    /// Every object.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.objects.values().cloned().collect()
    }

    /// Whether the kind is served and was listed once, in every scope.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Takes what the watch of a scope says, and tells what that changes.
    pub(crate) fn take(&self, scope: &str, event: Event<K>) -> Vec<Change<K>> {
        let mut state = self.write();
        match event {
            Event::Init => {
                state.listed.insert(scope.to_owned(), HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let key = object.identity().key();
                let listed = state.listed.entry(scope.to_owned()).or_default();
                listed.insert(key, Arc::new(object));
                Vec::new()
            }
            Event::InitDone => {
                let listed = state.listed.remove(scope).unwrap_or_default();
                let within = |key: &&Key| scope.is_empty() || key.0 == scope;
                let gone: Vec<Key> = state
                    .objects
                    .keys()
                    .filter(within)
                    .filter(|k| !listed.contains_key(*k))
                    .cloned()
                    .collect();
                let mut changes: Vec<Change<K>> =
                    gone.iter().filter_map(|key| state.bury(key)).collect();
                changes.extend(listed.into_values().filter_map(|object| state.put(object)));
                state.unlisted.remove(scope);
                if state.unlisted.is_empty() {
                    self.synced.store(true, Ordering::Release);
                }
                changes
            }
            Event::Apply(object) => state.put(Arc::new(object)).into_iter().collect(),
            Event::Delete(object) => {
                let identity = object.identity();
                state.ended(identity);
                state.remove(&identity.key()).into_iter().collect()
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
        state.put(Arc::new(object))
    }

    /// Takes that we deleted an object, or found it gone, and tells what that changes.
    pub(crate) fn gone(&self, namespace: &str, name: &str) -> Option<Change<K>> {
        let key = Arc::new((namespace.to_owned(), name.to_owned()));
        self.write().bury(&key)
    }

    /// Forgets everything: the kind is no longer served.
    pub(crate) fn clear(&self) -> Vec<Change<K>> {
        self.synced.store(false, Ordering::Release);
        let mut state = self.write();
        state.unlisted = self.scopes.iter().cloned().collect();
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
        let key = object.identity().key();
        if let Some(old) = self.objects.get(&key) {
            if object.identity().is_older(old.identity()) {
                return None;
            }
            if !object.differs(old) {
                self.objects.insert(key, object);
                return None;
            }
        }
        let old = self.remove(&key).and_then(|change| change.old);
        for index in object.index() {
            self.index.insert((index, Arc::clone(&key)));
        }
        self.objects.insert(key, Arc::clone(&object));
        Some(Change {
            old,
            new: Some(object),
        })
    }

    /// Removes an object that is no more.
    fn bury(&mut self, key: &Key) -> Option<Change<K>> {
        let change = self.remove(key)?;
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

    fn remove(&mut self, key: &Key) -> Option<Change<K>> {
        let old = self.objects.remove(key)?;
        for index in old.index() {
            self.index.remove(&(index, Arc::clone(key)));
        }
        Some(Change {
            old: Some(old),
            new: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
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
        cache.take(scope, Event::Init);
        for (namespace, name) in objects {
            cache.take(scope, Event::InitApply(object(namespace, name)));
        }
        let changes = cache.take(scope, Event::InitDone);
        let gone = changes.iter().filter(|change| change.new.is_none());
        gone.filter_map(|change| change.old.as_ref()?.0.name.clone())
            .collect()
    }

    #[test]
    fn the_list_of_one_namespace_says_nothing_of_another() {
        let cache = Cache::of(&["a".to_owned(), "b".to_owned()]);
        list(&cache, "a", &[("a", "one"), ("a", "two")]);
        assert!(!cache.is_synced(), "b was not listed yet");
        list(&cache, "b", &[("b", "three")]);
        assert!(cache.is_synced());
        assert_eq!(list(&cache, "a", &[("a", "two")]), ["one"]);
        assert_eq!(cache.all().len(), 2);
        cache.clear();
        list(&cache, "b", &[]);
        assert!(!cache.is_synced(), "a was not listed again");
    }

    #[test]
    fn lists_that_are_under_way_together_do_not_mix() {
        let cache = Cache::of(&["a".to_owned(), "b".to_owned()]);
        cache.take("a", Event::Init);
        cache.take("a", Event::InitApply(object("a", "one")));
        cache.take("b", Event::Init);
        cache.take("b", Event::InitApply(object("b", "two")));
        cache.take("a", Event::InitDone);
        cache.take("b", Event::InitDone);
        assert_eq!(cache.all().len(), 2);
    }

    #[test]
    fn the_answer_to_a_write_does_not_bring_back_what_has_ended_since() {
        let cache = Cache::of(&[Scope::new()]);
        let with_uid = |uid: &str| {
            let mut object = object("a", "one");
            object.0.uid = Some(uid.to_owned());
            object
        };
        cache.take("", Event::Apply(with_uid("1")));
        cache.take("", Event::Delete(with_uid("1")));
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
