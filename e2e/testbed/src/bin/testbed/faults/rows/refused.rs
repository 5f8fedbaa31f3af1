//! What a write that is refused for a while has to come to, whoever refuses it.

use std::time::Duration;

use fault_proxy::Seen;

use super::super::case::{Case, MODEL, Since};
use super::super::life::Step;
use super::super::recorded::Settled;
use super::{Ends, PATIENCE, SHOWN, equal, text};

/// So many attempts take at least so long: they come after 1, 2 and 4 s, each a fifth more or less, and once one
/// comes at once, since what is to be written is known in full only after the first.
const ATTEMPTS: usize = 4;
const AT_LEAST: Duration = Duration::from_millis(2400);

/// Annotates the Model while writes of `resource` are refused: it says why in the words of who refuses, and is not
/// tried again and again. It is served as soon as `undo` has had its effect.
pub(super) async fn until_undone(
    case: &Case<'_>,
    resource: &str,
    words: &str,
    ends: &Ends,
    undo: impl AsyncFnOnce() -> Result<(), String>,
) -> Result<Settled, String> {
    let begun = case.begin(Vec::new());
    Step::Create.take(case, MODEL).await.map_err(text)?;
    says(case, words).await?;
    patiently(case, &begun, |seen| seen.request.resource == resource).await?;
    undo().await?;
    let since = case.begin(Vec::new());
    let served = ends.of(Step::Create)?;
    case.settle(&since, PATIENCE, |state| equal(state, served))
        .await
}

/// Waits until a condition of the Model has these words.
pub(super) async fn says(case: &Case<'_>, words: &str) -> Result<(), String> {
    let model = case.namespace.model_named(MODEL).map_err(text)?;
    let what = format!("a condition says {words:?}");
    let told = case.bed.wait_for(what, SHOWN, async || {
        let conditions = model.conditions().await?;
        let says = conditions.iter().any(|c| c.message.contains(words));
        says.then_some(()).ok_or_else(|| format!("{conditions:#?}"))
    });
    told.await.map_err(text)
}

/// Waits until a write was refused several times, and fails when that was too soon.
pub(super) async fn patiently(
    case: &Case<'_>,
    begun: &Since,
    is_it: impl Fn(&Seen) -> bool,
) -> Result<(), String> {
    let refused = |seen: &Seen| {
        seen.request.writes() && seen.code.is_some_and(|code| code >= 400) && is_it(seen)
    };
    let what = format!("a write was refused {ATTEMPTS} times");
    let attempts = case.bed.wait_for(what, SHOWN, async || {
        let mut seen = case.seen(begun);
        seen.retain(&refused);
        if seen.len() >= ATTEMPTS {
            Ok(seen)
        } else {
            Err(format!("{} times", seen.len()))
        }
    });
    let attempts = attempts.await.map_err(text)?;
    let times: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt.at - attempts[0].at)
        .collect();
    if times[ATTEMPTS - 1] < AT_LEAST {
        return Err(format!("it was tried again too soon: after {times:?}"));
    }
    Ok(())
}
