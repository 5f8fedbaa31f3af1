//! Interleavings that nobody thought of: what users do, and what goes wrong, drawn by a seed.
//!
//! Here nothing is known of the end but what the Model itself asks for. So the operator is started anew when it
//! rests: one that has seen nothing of what happened must find nothing to do.

use std::time::Duration;

use fastrand::Rng;
use fault_proxy::{Action, Fault, Refusal, Selector, Verb, WatchFault};
use serde_json::Value;

use super::case::{Case, Patience};
use super::life::Step;

/// The most that happens to a Model.
const STEPS: usize = 4;
/// The most that goes wrong meanwhile.
const FAULTS: usize = 4;
/// The longest pause between two steps, in milliseconds: about as long as the operator takes for one.
const PAUSE: u64 = 400;

/// What happens to a Model that is served; one that is not is annotated.
const OF_SERVED: [Step; 6] = [
    Step::Edit,
    Step::Rename,
    Step::Unannotate,
    Step::Replace,
    Step::Upgrade,
    Step::Downgrade,
];

/// What a seed stands for.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    /// What happens, each after a pause.
    pub(crate) steps: Vec<(Duration, Step)>,
    /// What goes wrong.
    pub(crate) faults: Vec<Fault>,
}

impl Walk {
    /// The same for the same seed.
    pub(crate) fn of(seed: u64, watched: &[String]) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut served = false;
        let mut steps = Vec::new();
        for _ in 0..rng.usize(1..=STEPS) {
            let step = match rng.choice(OF_SERVED) {
                Some(step) if served => step,
                _ => Step::Create,
            };
            served = step.serves();
            steps.push((Duration::from_millis(rng.u64(0..=PAUSE)), step));
        }
        let faults = (0..rng.usize(1..=FAULTS))
            .map(|_| fault(&mut rng, watched))
            .collect();
        Self { steps, faults }
    }
}

fn fault(rng: &mut Rng, watched: &[String]) -> Fault {
    if rng.u8(0..4) == 0 {
        let resource = rng
            .choice(watched.iter())
            .map_or("httproutes", String::as_str);
        let broken = [
            WatchFault::Cut(rng.u32(0..3)),
            WatchFault::End(rng.u32(0..3)),
            WatchFault::Gone(rng.u32(0..3)),
            WatchFault::Freeze(rng.u32(0..3)),
        ];
        let broken = rng.choice(broken).unwrap_or(WatchFault::Cut(0));
        let at = Selector::of(Verb::Watch, resource).only(1, 1);
        return Fault {
            at,
            what: Action::Watch(broken),
        };
    }
    let codes = [409, 429, 500, 503, 504];
    let actions = [
        Action::CrashBefore,
        Action::CrashAfter,
        Action::Lose,
        Action::Reset,
        Action::Truncate(20),
        Action::Delay(Duration::from_millis(rng.u64(50..1500))),
        Action::Refuse(Refusal::with(rng.choice(codes).unwrap_or(500))),
    ];
    let what = rng.choice(actions).unwrap_or(Action::Lose);
    Fault {
        at: Selector::write(rng.u32(1..=30)),
        what,
    }
}

/// Walks as the seed says, from a Model that is not annotated and back to it.
///
/// # Errors
/// What was not as it should be.
pub(crate) async fn walk(case: &Case<'_>, walk: &Walk, patience: Patience) -> Result<(), String> {
    let failed = |e: testbed::Error| e.to_string();
    let proxy = &case.operator.proxy;
    let serves = walk.steps.last().is_some_and(|(_, step)| step.serves());
    let since = case.begin(walk.faults.clone());
    for (pause, step) in &walk.steps {
        tokio::time::sleep(*pause).await;
        step.take(case).await.map_err(failed)?;
    }
    proxy.thaw();
    let (state, _) = case
        .rest(&since, patience, |state, _| state.is(serves))
        .await?;
    // One that knows nothing of what happened.
    let since = case.begin(Vec::new());
    case.operator.start_anew().await.map_err(failed)?;
    let (anew, seen) = case
        .rest(&since, patience, |state, _| state.is(serves))
        .await?;
    let wrote = seen.into_iter().filter(|seen| seen.request.writes());
    let wrote: Vec<String> = wrote.map(|seen| seen.request.to_string()).collect();
    if !wrote.is_empty() {
        return Err(format!(
            "an operator that was started anew wrote {}",
            wrote.join(", ")
        ));
    }
    let differences = anew.differences(&state);
    if !differences.is_empty() {
        return Err(format!("not the same after a restart: {differences}"));
    }
    case.operator.upgrade(Value::Null).await.map_err(failed)?;
    let since = case.begin(Vec::new());
    Step::Close.take(case).await.map_err(failed)?;
    case.rest(&since, patience, |state, _| state.is(false))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_same_walk_each_time() {
        let watched = ["pods".to_owned(), "httproutes".to_owned()];
        let of = |seed| format!("{:?}", Walk::of(seed, &watched));
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }
}
