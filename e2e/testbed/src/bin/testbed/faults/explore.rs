//! Interleavings that nobody thought of: what users do, and what goes wrong, drawn by a seed.
//!
//! Here nothing is known of the end but what the Model itself asks for. So the operator is started anew when it
//! rests: one that has seen nothing of what happened must find nothing to do.

use std::time::Duration;

use fastrand::Rng;
use fault_proxy::{Action, Fault, Refusal, Seen, Selector, Verb, WatchFault};
use serde_json::Value;

use super::case::{Case, Patience};
use super::life::Step;
use super::state::State;

/// The Models that it happens to, all of which ask for the same host and path.
pub(crate) const MODELS: [&str; 3] = [super::case::MODEL, "two", "three"];
/// The most that happens to them.
const STEPS: usize = 5;
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
    /// What happens to which Model, each after a pause.
    pub(crate) steps: Vec<(Duration, &'static str, Step)>,
    /// What goes wrong.
    pub(crate) faults: Vec<Fault>,
}

impl Walk {
    /// The same for the same seed.
    pub(crate) fn of(seed: u64, watched: &[String]) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut served = [false; MODELS.len()];
        let models = rng.usize(1..=MODELS.len());
        let mut steps = Vec::new();
        for _ in 0..rng.usize(1..=STEPS) {
            let model = rng.usize(0..models);
            let step = match rng.choice(OF_SERVED) {
                Some(step) if served[model] => step,
                _ => Step::Create,
            };
            served[model] = step.serves();
            let pause = Duration::from_millis(rng.u64(0..=PAUSE));
            steps.push((pause, MODELS[model], step));
        }
        let faults = (0..rng.usize(1..=FAULTS))
            .map(|_| fault(&mut rng, watched))
            .collect();
        Self { steps, faults }
    }

    /// Those that went wrong once, by what happens.
    pub(crate) fn known() -> Vec<(&'static str, Self)> {
        let [older, younger, _] = MODELS;
        let moment = Duration::from_millis(400);
        let create = [younger, older].map(|model| (moment, model, Step::Create));
        let walk = Self {
            steps: create.into(),
            faults: vec![Fault {
                at: Selector::write(1).only(1, 2),
                what: Action::Delay(3 * moment),
            }],
        };
        vec![("an older Model wants what is being written", walk)]
    }

    /// The path that a Model asks for in the end.
    fn path(&self, model: &str) -> &'static str {
        let steps = self.steps.iter().filter(|(_, of, _)| *of == model);
        steps.fold("/a", |path, (_, _, step)| match step {
            Step::Create => "/a",
            Step::Rename | Step::Replace => "/b",
            _ => path,
        })
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
            WatchFault::Miss(rng.u32(0..3)),
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

/// Walks as the seed says, from Models that are not annotated and back to them.
///
/// # Errors
/// What was not as it should be.
pub(crate) async fn walk(case: &Case<'_>, walk: &Walk, patience: Patience) -> Result<(), String> {
    let failed = |e: testbed::Error| e.to_string();
    let proxy = &case.operator.proxy;
    let last = |model: &str| {
        let steps = walk.steps.iter().rev();
        let step = steps.into_iter().find(|(_, of, _)| *of == model);
        step.is_some_and(|(_, _, step)| step.serves())
    };
    // What two ask for is the same only if both were renamed, or neither: by their own routes' host and path.
    let fits = |state: &State| {
        for model in MODELS.into_iter().filter(|model| !last(model)) {
            state.is(model, false)?;
        }
        for path in ["/a", "/b"] {
            let same = |model: &&str| last(model) && walk.path(model) == path;
            let models: Vec<&str> = MODELS.into_iter().filter(same).collect();
            state.is_shared(&models)?;
        }
        Ok(())
    };
    let since = case.begin(walk.faults.clone());
    for (pause, model, step) in &walk.steps {
        tokio::time::sleep(*pause).await;
        step.take(case, model).await.map_err(failed)?;
    }
    proxy.thaw();
    let (state, _) = case.rest(&since, patience, |state, _| fits(state)).await?;
    // One that knows nothing of what happened.
    let since = case.begin(Vec::new());
    case.operator.start_anew().await.map_err(failed)?;
    let (anew, seen) = case.rest(&since, patience, |state, _| fits(state)).await?;
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
    for model in MODELS {
        Step::Close.take(case, model).await.map_err(failed)?;
    }
    let gone = |state: &State, _: &[Seen]| {
        MODELS
            .into_iter()
            .try_for_each(|model| state.is(model, false))
    };
    case.rest(&since, patience, gone).await.map(drop)
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
