//! Waiting by looking again, with a deadline and a message that shows what was seen last.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{Error, Result};

/// Between two looks. Short, because most of a test's time would otherwise be spent here.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until `look` gives a value; what it gives as an error is the state seen, which the time-out's
/// message shows. Fails at once when `check` does.
pub(crate) async fn until<T>(
    check: impl Fn() -> Result<()>,
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut seen = "nothing: the first look did not return".to_owned();
    loop {
        check()?;
        match timeout_at(end, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(now)) => seen = now,
            Err(_) => {
                return Err(Error::TimedOut {
                    what: what.to_owned(),
                    after: deadline,
                    seen,
                });
            }
        }
        if Instant::now() + PAUSE >= end {
            return Err(Error::TimedOut {
                what: what.to_owned(),
                after: deadline,
                seen,
            });
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_time_out_shows_what_was_seen_last() {
        let mut looks = 0;
        let error = until(
            || Ok(()),
            "five",
            Duration::from_millis(120),
            async || {
                looks += 1;
                Err::<(), _>(format!("look {looks}"))
            },
        )
        .await
        .unwrap_err();
        assert!(error.to_string().contains("last seen: look "), "{error}");
    }
}
