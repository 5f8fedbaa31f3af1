//! Whom a change of something concerns that does not name them: a Gateway, a pod of a Model with a pod selector of its
//! own, or what a ModelExposure exposes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use kthena_bridge_core::TargetKind;

use crate::object_ref::ObjectRef;

/// Something that Models look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Topic {
    /// A Gateway, by namespace and name.
    Gateway(String, String),
    /// Whichever Gateway a namespace has.
    GatewaysIn(String),
    /// The pods with a label, by their namespace and the label's key and value.
    PodsWith(String, String, String),
    /// A ModelServing, by namespace and name.
    Serving(String, String),
    /// What is exposed, and who else exposes it, by kind, namespace and name.
    Target(TargetKind, String, String),
    /// The endpoints of a Service, by namespace and name.
    Endpoints(String, String),
    /// The labels of a namespace.
    Namespace(String),
}

/// Who looks at what. Of a topic only its hash is kept, since there are several for each Model: should two have
/// the same, a Model is looked at once too often.
#[derive(Debug)]
pub(crate) struct Interests<T = Topic> {
    state: Mutex<State>,
    topic: PhantomData<fn(T)>,
}

#[derive(Debug, Default)]
struct State {
    /// What each Model looks at.
    topics: HashMap<ObjectRef, Box<[u64]>>,
    /// Who looks at what: one set for all, since a set for each topic would be larger.
    models: BTreeSet<(u64, ObjectRef)>,
}

impl<T> Default for Interests<T> {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            topic: PhantomData,
        }
    }
}

impl<T: Hash> Interests<T> {
    /// Forgets a Model; tells whether it looked at anything.
    pub(crate) fn forget(&self, model: &ObjectRef) -> bool {
        let knew = self.knows(model);
        self.set(model, &HashSet::new());
        knew
    }

    /// Whether it is said what a Model looks at.
    pub(crate) fn knows(&self, model: &ObjectRef) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.topics.contains_key(model)
    }

    /// Says what a Model looks at from now on.
    pub(crate) fn set(&self, model: &ObjectRef, topics: &HashSet<T>) {
        let mut topics: Box<[u64]> = topics.iter().map(hash).collect();
        topics.sort_unstable();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.topics.get(model).is_some_and(|old| *old == topics) {
            return;
        }
        for topic in state.topics.remove(model).unwrap_or_default() {
            state.models.remove(&(topic, model.clone()));
        }
        if topics.is_empty() {
            return;
        }
        let models = topics.iter().map(|topic| (*topic, model.clone()));
        state.models.extend(models);
        state.topics.insert(model.clone(), topics);
    }

    /// The Models that look at this.
    pub(crate) fn of(&self, topic: &T) -> Vec<ObjectRef> {
        let hash = hash(topic);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = state.models.range((hash, ObjectRef::default())..);
        found
            .take_while(|(topic, _)| *topic == hash)
            .map(|(_, model)| model.clone())
            .collect()
    }
}

fn hash(topic: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(name: &str) -> Topic {
        Topic::Gateway("ns".to_owned(), name.to_owned())
    }

    #[test]
    fn a_change_reaches_those_who_look_at_it_and_nobody_else() {
        let interests = Interests::default();
        let [one, two] = ["one", "two"].map(|name| ObjectRef::model("ns", name));
        interests.set(&one, &HashSet::from([gateway("a"), gateway("b")]));
        interests.set(&two, &HashSet::from([gateway("b")]));
        assert_eq!(interests.of(&gateway("a")), std::slice::from_ref(&one));
        assert_eq!(interests.of(&gateway("b")).len(), 2);
        interests.set(&one, &HashSet::from([gateway("a")]));
        assert_eq!(interests.of(&gateway("b")), std::slice::from_ref(&two));
        interests.forget(&two);
        assert!(interests.of(&gateway("b")).is_empty());
        let state = interests.state.lock().unwrap();
        assert_eq!(
            (state.topics.len(), state.models.len()),
            (1, 1),
            "nothing is left of what is forgotten"
        );
    }
}
