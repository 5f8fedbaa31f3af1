//! Which Models a change of something concerns that does not name them: a Gateway, or a pod of a Model
//! with a pod selector of its own.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// Something that Models look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Topic {
    /// A Gateway, by namespace and name.
    Gateway(String, String),
    /// Whichever Gateway a namespace has.
    GatewaysIn(String),
    /// Any pod of a namespace.
    PodsIn(String),
    /// The endpoints of a Service, by namespace and name.
    Endpoints(String, String),
    /// The labels of a namespace.
    Namespace(String),
}

/// Who looks at what. Of a topic only its hash is kept, since there are several for each Model: should two have
/// the same, a Model is looked at once too often.
#[derive(Debug)]
pub(crate) struct Interests<M, T = Topic> {
    state: Mutex<State<M>>,
    topic: PhantomData<fn(T)>,
}

#[derive(Debug)]
struct State<M> {
    topics: HashMap<Arc<M>, Box<[u64]>>,
    models: HashMap<u64, HashSet<Arc<M>>>,
}

impl<M, T> Default for Interests<M, T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                topics: HashMap::new(),
                models: HashMap::new(),
            }),
            topic: PhantomData,
        }
    }
}

impl<M: Clone + Eq + Hash, T: Hash> Interests<M, T> {
    /// Forgets a Model.
    pub(crate) fn forget(&self, model: &M) {
        self.set(model, &HashSet::new());
    }

    /// Says what a Model looks at from now on.
    pub(crate) fn set(&self, model: &M, topics: &HashSet<T>) {
        let mut topics: Box<[u64]> = topics.iter().map(hash).collect();
        topics.sort_unstable();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.topics.get(model).is_some_and(|old| *old == topics) {
            return;
        }
        for topic in state.topics.remove(model).unwrap_or_default() {
            if let Some(models) = state.models.get_mut(&topic) {
                models.remove(model);
                if models.is_empty() {
                    state.models.remove(&topic);
                }
            }
        }
        if topics.is_empty() {
            return;
        }
        let model = Arc::new(model.clone());
        for topic in &topics {
            let models = state.models.entry(*topic).or_default();
            models.insert(Arc::clone(&model));
        }
        state.topics.insert(model, topics);
    }

    /// The Models that look at this.
    pub(crate) fn of(&self, topic: &T) -> Vec<M> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let models = state.models.get(&hash(topic)).into_iter().flatten();
        models.map(|model| M::clone(model)).collect()
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
        interests.set(&1, &HashSet::from([gateway("a"), gateway("b")]));
        interests.set(&2, &HashSet::from([gateway("b")]));
        assert_eq!(interests.of(&gateway("a")), [1]);
        assert_eq!(interests.of(&gateway("b")).len(), 2);
        interests.set(&1, &HashSet::from([gateway("a")]));
        assert_eq!(interests.of(&gateway("b")), [2]);
        interests.forget(&2);
        assert!(interests.of(&gateway("b")).is_empty());
        let state = interests.state.lock().unwrap();
        assert_eq!(
            (state.topics.len(), state.models.len()),
            (1, 1),
            "nothing is left of what is forgotten"
        );
    }
}
