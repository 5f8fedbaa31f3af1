//! README.md and docs/ say what is: tables are made from the code (`make generate` writes them), figures are
//! counted, links lead somewhere. Nothing here needs a bed; the commands are run by the test `transcript`.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

mod annotations;
mod by_hand;
mod configuration;
mod links;
mod model_exposure;
mod operations;
mod providers;
mod readme;
mod rights;
