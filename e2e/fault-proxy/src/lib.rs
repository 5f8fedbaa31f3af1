//! A proxy before the API server, for one client: it passes everything on, but for what a plan says.
//!
//! A [`Fault`] is a [`Selector`], which picks requests by what they are and by their number, and an
//! [`Action`], what becomes of them: the client is killed before or after a write, an answer is lost, a watch
//! is cut, or falls silent, or shows the past. Requests are numbered from 1 in the order in which they
//! arrive, anew for each plan, so that "the seventh write" is the same place in every run: faults that need a
//! window of a millisecond are not left to chance.
//!
//! [`request`] says what a request is, [`plan`] what becomes of it and [`events`] what becomes of a watch;
//! they know no network. [`proxy`] does it.

pub mod events;
pub mod plan;
pub mod proxy;
pub mod request;

pub use plan::{Action, Fault, Refusal, Selector, WatchFault};
pub use proxy::{Proxy, Seen};
pub use request::{Request, Verb};
