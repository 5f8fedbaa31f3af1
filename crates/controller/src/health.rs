//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::context::Context;
use crate::watch::Watches;

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, cx: Arc<Context>, watches: Arc<Watches>) {
    let app = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route(
            "/readyz",
            get(move || std::future::ready(readiness(&watches))),
        )
        .route("/metrics", get(move || std::future::ready(metrics(&cx))));
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "health and metrics are no longer served");
    }
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

fn metrics(cx: &Context) -> ([(&'static str, &'static str); 1], String) {
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", openmetrics)], cx.metrics.text())
}
