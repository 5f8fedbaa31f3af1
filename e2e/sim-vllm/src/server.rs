//! Which path answers what, and what every answer carries.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{self, Request},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    args::Role,
    metrics, openai,
    state::{Load, State},
};

/// Tests tell by this header which pod has answered.
const SERVED_BY: &str = "x-served-by";

pub(crate) fn router(role: Role, state: Arc<State>) -> Router {
    let mut router = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(scrape));
    if role == Role::Engine {
        router = router
            .route("/v1/completions", post(openai::completions))
            .route("/v1/chat/completions", post(openai::chat_completions))
            .route("/v1/models", get(openai::models))
            .route("/version", get(async || Json(json!({"version": "0.11.0"}))))
            .route("/sim", get(report).post(control));
    }
    router
        .fallback(async || {
            openai::refuse(StatusCode::NOT_FOUND, "NotFoundError", "Not Found", None)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&state), sign))
        .with_state(state)
}

async fn sign(
    extract::State(state): extract::State<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    state.count(request.uri().path());
    let mut response = next.run(request).await;
    if let Ok(name) = HeaderValue::from_str(&state.name) {
        response.headers_mut().insert(SERVED_BY, name);
    }
    response
}

async fn health(extract::State(state): extract::State<Arc<State>>) -> StatusCode {
    if state.load().healthy.unwrap_or(true) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn scrape(extract::State(state): extract::State<Arc<State>>) -> Response {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        metrics::text(&state),
    )
        .into_response()
}

async fn control(
    extract::State(state): extract::State<Arc<State>>,
    Json(load): Json<Load>,
) -> Json<Load> {
    Json(state.set_load(load))
}

async fn report(extract::State(state): extract::State<Arc<State>>) -> Json<Value> {
    Json(
        json!({"name": state.name, "requests": state.requests(), "running": state.running(), "load": state.load()}),
    )
}
