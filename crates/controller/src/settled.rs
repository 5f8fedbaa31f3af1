//! Objects that the API server keeps otherwise than they are written: a webhook changes them back after every
//! write, or the schema drops a field. Writing them again at once would never end.
//!
//! They are left so for a while, and not for ever: nothing tells when the webhook is gone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kthena_bridge_core::ownership::Digest;

/// How long such an object is left as it is: less than passes until a Model is looked at although nothing happened.
const WHILE: Duration = Duration::from_mins(5);

/// What the API server made of what was written.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// By the object's uid and what was wanted: what it is, and since when.
    kept: Mutex<Kept>,
}

type Kept = HashMap<(String, Digest), (Digest, Instant)>;

impl Settled {
    /// Notes what became of a write of the object with this uid.
    pub(crate) fn note(&self, uid: &str, wanted: Digest, is: Digest, now: Instant) {
        let mut kept = self.lock();
        kept.retain(|_, (_, since)| now.duration_since(*since) < WHILE);
        kept.insert((uid.to_owned(), wanted), (is, now));
    }

    /// Whether it was written so a while ago, and is what the API server made of that.
    pub(crate) fn is(&self, uid: &str, wanted: Digest, is: Digest, now: Instant) -> bool {
        let kept = self.lock();
        let kept = kept.get(&(uid.to_owned(), wanted));
        kept.is_some_and(|(as_, since)| *as_ == is && now.duration_since(*since) < WHILE)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kthena_bridge_core::ownership;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_otherwise_is_left_so_for_a_while() {
        let digest = |of: &str| ownership::desired(&json!({"spec": of}));
        let (settled, now) = (Settled::default(), Instant::now());
        let (wanted, is) = (digest("wanted"), digest("is"));
        assert!(!settled.is("uid", wanted, is, now));
        settled.note("uid", wanted, is, now);
        assert!(settled.is("uid", wanted, is, now));
        assert!(
            !settled.is("uid", wanted, digest("drifted"), now),
            "somebody else changed it"
        );
        assert!(
            !settled.is("uid", digest("edited"), is, now),
            "something else is wanted"
        );
        assert!(!settled.is("another", wanted, is, now), "it was made anew");
        assert!(
            !settled.is("uid", wanted, is, now + WHILE),
            "the webhook may be gone"
        );
        settled.note("another", wanted, is, now + WHILE);
        assert_eq!(settled.lock().len(), 1, "nothing old is kept");
    }
}
