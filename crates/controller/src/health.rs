//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::context::Context;
use crate::watch::Watches;

/// What is asked about.
#[derive(Clone)]
struct Served {
    cx: Arc<Context>,
    watches: Arc<Watches>,
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, cx: Arc<Context>, watches: Arc<Watches>) {
    let app = Router::new()
        .route(
            "/livez",
            get(async |State(s): State<Served>| liveness(&s.watches)),
        )
        .route(
            "/readyz",
            get(async |State(s): State<Served>| readiness(&s.watches)),
        )
        .route("/metrics", get(async |State(s): State<Served>| metrics(&s)))
        .with_state(Served { cx, watches });
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "health and metrics are no longer served");
    }
}

/// Alive while every watch goes on: a Model that changes unseen is worse than a restart.
fn liveness(watches: &Watches) -> (StatusCode, String) {
    let now = Instant::now();
    let vitals = watches.vitals();
    let wedged: Vec<_> = vitals
        .iter()
        .filter_map(|watch| watch.wedged(now))
        .collect();
    if wedged.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let wedged = wedged.join(", ");
    // Who asks does not say what the answer was.
    tracing::error!(%wedged, "this operator has to be restarted");
    (StatusCode::SERVICE_UNAVAILABLE, format!("{wedged}\n"))
}

/// Ready when everything that there is was seen once.
fn readiness(watches: &Watches) -> (StatusCode, String) {
    let waiting = watches.waiting_for();
    if !waiting.is_empty() {
        let waiting = waiting.join(", ");
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for the list of {waiting}\n"),
        );
    }
    let missing = watches.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (
        StatusCode::OK,
        format!("ok; not installed: {}\n", missing.join(", ")),
    )
}

fn metrics(served: &Served) -> ([(&'static str, &'static str); 1], String) {
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [("content-type", openmetrics)],
        served
            .cx
            .metrics
            .text(&served.watches.vitals(), &served.cx.queue.load()),
    )
}
