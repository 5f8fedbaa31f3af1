//! The inference API, as vLLM answers it: <https://platform.openai.com/docs/api-reference>

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::state::{Running, State};

/// Between two chunks of a streamed answer: long enough to reach the client one by one.
const BETWEEN_CHUNKS: Duration = Duration::from_millis(20);

/// The fields of a request that change the answer.
#[derive(Deserialize)]
struct Request {
    model: Option<String>,
    #[serde(default)]
    prompt: Value,
    #[serde(default)]
    messages: Value,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: StreamOptions,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// The two endpoints differ only in how they name and shape the same things.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Chat,
}

impl Kind {
    fn id(self, state: &State) -> String {
        let prefix = if self == Self::Text {
            "cmpl"
        } else {
            "chatcmpl"
        };
        format!("{prefix}-{}-{}", state.name, state.next_completion())
    }

    fn object(self, streamed: bool) -> &'static str {
        match (self, streamed) {
            (Self::Text, _) => "text_completion",
            (Self::Chat, false) => "chat.completion",
            (Self::Chat, true) => "chat.completion.chunk",
        }
    }

    fn choice(self, text: &str, finish_reason: Option<&str>) -> Value {
        match self {
            Self::Text => {
                json!({"index": 0, "text": text, "logprobs": null, "finish_reason": finish_reason})
            }
            Self::Chat => json!({
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": null,
                "finish_reason": finish_reason,
            }),
        }
    }

    fn chunk(self, text: &str, first: bool, finish_reason: Option<&str>) -> Value {
        match (self, first) {
            (Self::Text, _) => self.choice(text, finish_reason),
            (Self::Chat, true) => {
                json!({"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish_reason})
            }
            (Self::Chat, false) => {
                json!({"index": 0, "delta": {"content": text}, "finish_reason": finish_reason})
            }
        }
    }
}

pub(crate) async fn completions(
    extract::State(state): extract::State<Arc<State>>,
    body: Bytes,
) -> Response {
    complete(Kind::Text, state, &body).await
}

pub(crate) async fn chat_completions(
    extract::State(state): extract::State<Arc<State>>,
    body: Bytes,
) -> Response {
    complete(Kind::Chat, state, &body).await
}

pub(crate) async fn models(extract::State(state): extract::State<Arc<State>>) -> Json<Value> {
    let data: Vec<_> = state
        .served_names
        .iter()
        .map(|name| {
            json!({
                "id": name, "object": "model", "created": now(), "owned_by": "vllm",
                "root": state.model, "parent": null, "max_model_len": 32768, "permission": [],
            })
        })
        .collect();
    Json(json!({"object": "list", "data": data}))
}

async fn complete(kind: Kind, state: Arc<State>, body: &[u8]) -> Response {
    let request: Request = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                "Bad Request",
                &error.to_string(),
                None,
            );
        }
    };
    let missing = match kind {
        Kind::Text => request.prompt.is_null().then_some("prompt"),
        Kind::Chat => request.messages.is_null().then_some("messages"),
    };
    if let Some(field) = missing {
        return refuse(
            StatusCode::BAD_REQUEST,
            "Bad Request",
            &format!("Field required: {field}"),
            Some(field),
        );
    }
    let model = match request.model {
        Some(model) if state.served_names.contains(&model) => model,
        Some(model) => {
            let message = format!("The model `{model}` does not exist.");
            return refuse(
                StatusCode::NOT_FOUND,
                "NotFoundError",
                &message,
                Some("model"),
            );
        }
        None => state.served_names.first().cloned().unwrap_or_default(),
    };

    let running = Running::start(Arc::clone(&state));
    if let Some(delay) = state.load().delay_ms {
        sleep(Duration::from_millis(delay)).await;
    }

    let said = words(&request.prompt) + words(&request.messages);
    let text = format!("This is {} answering {said} words as {model} .", state.name);
    let all: Vec<_> = text.split_inclusive(' ').map(str::to_owned).collect();
    let limit = request
        .max_completion_tokens
        .or(request.max_tokens)
        .unwrap_or(all.len())
        .min(all.len());
    let finish_reason = if limit < all.len() { "length" } else { "stop" };
    let tokens: Vec<_> = all.into_iter().take(limit).collect();
    let usage =
        json!({"prompt_tokens": said, "completion_tokens": limit, "total_tokens": said + limit});
    let envelope = json!({
        "id": kind.id(&state),
        "object": kind.object(request.stream),
        "created": now(),
        "model": model,
        "system_fingerprint": state.name,
    });

    if !request.stream {
        let choice = kind.choice(&tokens.concat(), Some(finish_reason));
        return Json(with(
            &envelope,
            &[("choices", json!([choice])), ("usage", usage)],
        ))
        .into_response();
    }

    let last = tokens.len();
    let mut chunks: Vec<Value> = tokens
        .iter()
        .enumerate()
        .map(|(at, token)| kind.chunk(token, at == 0, (at + 1 == last).then_some(finish_reason)))
        .map(|choice| with(&envelope, &[("choices", json!([choice]))]))
        .collect();
    if request.stream_options.include_usage {
        chunks.push(with(&envelope, &[("choices", json!([])), ("usage", usage)]));
    }
    let events = chunks
        .into_iter()
        .map(|chunk| chunk.to_string())
        .chain(["[DONE]".to_owned()]);
    let stream = stream::iter(events.enumerate()).then(move |(at, data)| {
        // The stream owns the guard, so the completion runs until its last chunk is sent.
        let _running = &running;
        async move {
            if at > 0 {
                sleep(BETWEEN_CHUNKS).await;
            }
            Ok::<_, Infallible>(format!("data: {data}\n\n"))
        }
    });
    (
        [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")],
        Body::from_stream(stream),
    )
        .into_response()
}

fn with(envelope: &Value, fields: &[(&str, Value)]) -> Value {
    let mut whole = envelope.clone();
    for (name, value) in fields {
        whole[name] = value.clone();
    }
    whole
}

/// An error's body as vLLM's `ErrorResponse` has it.
pub(crate) fn refuse(
    status: StatusCode,
    kind: &str,
    message: &str,
    param: Option<&str>,
) -> Response {
    let error = json!({"message": message, "type": kind, "param": param, "code": status.as_u16()});
    (status, Json(json!({"error": error}))).into_response()
}

/// A stand-in for counting tokens, in all the forms that a prompt has.
fn words(value: &Value) -> usize {
    match value {
        Value::String(text) => text.split_whitespace().count(),
        Value::Array(items) => items.iter().map(words).sum(),
        Value::Object(message) => message
            .get("content")
            .or_else(|| message.get("text"))
            .map_or(0, words),
        // A prompt may also be given as token ids.
        Value::Number(_) => 1,
        Value::Null | Value::Bool(_) => 0,
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
