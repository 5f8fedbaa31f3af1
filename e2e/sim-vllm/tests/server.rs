//! Starts the binary and talks to it as a client, the kubelet and an endpoint picker do.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of a test, which Clippy does not see as tests"
)]

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

/// A build of the whole workspace gives reqwest TLS, and no provider for it.
fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new()
}

struct Server {
    process: Child,
    address: String,
    client: Client,
}

impl Server {
    /// Starts it on a free port, which it names on standard error.
    fn start(args: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_sim-vllm"))
            .args(args.split_whitespace())
            .args(["--host", "127.0.0.1", "--port", "0"])
            .env("POD_NAME", "pod-1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let line = lines
            .find(|line| line.contains("listening"))
            .expect("it says where it listens");
        let address = line
            .split("address=")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            address,
            client: client(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.client
            .post(self.url(path))
            .json(body)
            .send()
            .await
            .unwrap()
    }

    /// Waits for the process to end by itself.
    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("still running 10 s after it was told to stop");
    }

    fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([name, &self.process.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn completions_are_answered_as_vllm_does() {
    let server =
        Server::start("--model /models/q --served-model-name Qwen demo --trust-remote-code");
    let answer = server
        .post(
            "/v1/completions",
            &json!({"model": "demo", "prompt": "one two three"}),
        )
        .await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["x-served-by"], "pod-1");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["object"], "text_completion");
    assert_eq!(body["model"], "demo");
    assert_eq!(body["system_fingerprint"], "pod-1");
    assert_eq!(body["usage"]["prompt_tokens"], 3);
    assert!(
        body["choices"][0]["text"]
            .as_str()
            .unwrap()
            .contains("pod-1"),
        "{body}"
    );

    let chat = json!({"model": "Qwen", "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 2});
    let body: Value = server
        .post("/v1/chat/completions", &chat)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["message"]["role"], "assistant");
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["usage"]["total_tokens"], 4);

    let names: Value = server.get("/v1/models").await.json().await.unwrap();
    assert_eq!(
        [&names["data"][0]["id"], &names["data"][1]["id"]],
        ["Qwen", "demo"]
    );
    assert!(server.get("/version").await.json::<Value>().await.unwrap()["version"].is_string());
}

#[tokio::test]
async fn what_it_does_not_serve_is_refused() {
    let server = Server::start("--model q");
    let answer = server
        .post("/v1/completions", &json!({"model": "other", "prompt": "x"}))
        .await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(answer.headers()["x-served-by"], "pod-1");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["type"], "NotFoundError");
    assert_eq!(
        body["error"]["message"],
        "The model `other` does not exist."
    );

    let answer = server
        .client
        .post(server.url("/v1/completions"))
        .body("{")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let answer = server
        .post("/v1/chat/completions", &json!({"model": "q"}))
        .await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(server.get("/nope").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_streamed_answer_comes_in_several_chunks() {
    let server = Server::start("--model q");
    let request = json!({"model": "q", "messages": [{"role": "user", "content": "hi"}], "stream": true,
                         "stream_options": {"include_usage": true}});
    let mut answer = server.post("/v1/chat/completions", &request).await;
    assert!(
        answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/event-stream")
    );
    let mut reads = 0;
    let mut text = String::new();
    while let Some(bytes) = answer.chunk().await.unwrap() {
        reads += 1;
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    assert!(reads > 1, "all of it came at once");
    let events: Vec<_> = text
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|e| serde_json::from_str(e).unwrap())
        .collect();
    assert_eq!(chunks[0]["object"], "chat.completion.chunk");
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let said: String = chunks
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert!(said.contains("pod-1"), "{said}");
    assert_eq!(
        chunks[chunks.len() - 2]["choices"][0]["finish_reason"],
        "stop"
    );
    assert!(chunks[chunks.len() - 1]["usage"]["total_tokens"].is_u64());
}

#[tokio::test]
async fn load_and_health_are_set_from_outside() {
    let server = Server::start("--served-model-name Qwen --model q");
    assert_eq!(server.get("/health").await.status(), StatusCode::OK);
    let set = json!({"waiting": 7, "running": 3, "kv_cache_usage": 0.5, "healthy": false});
    assert_eq!(
        server
            .post("/sim", &set)
            .await
            .json::<Value>()
            .await
            .unwrap(),
        set
    );
    // What is not given stays as it was.
    assert_eq!(
        server.post("/sim", &json!({"waiting": 8})).await.status(),
        StatusCode::OK
    );
    assert_eq!(
        server.get("/health").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );

    let metrics = server.get("/metrics").await.text().await.unwrap();
    for line in [
        "vllm:num_requests_waiting{engine=\"0\",model_name=\"Qwen\"} 8",
        "vllm:num_requests_running{engine=\"0\",model_name=\"Qwen\"} 3",
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"Qwen\"} 0.5",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "no {line} in\n{metrics}"
        );
    }
    for name in ["vllm:lora_requests_info{", "vllm:cache_config_info{"] {
        assert!(metrics.contains(name), "no {name} in\n{metrics}");
    }

    let report: Value = server.get("/sim").await.json().await.unwrap();
    assert_eq!(report["requests"]["/health"], 2);
    assert_eq!(report["requests"]["/metrics"], 1);
}

#[tokio::test]
async fn sigterm_lets_running_requests_finish() {
    let mut server = Server::start("--model q");
    server.post("/sim", &json!({"delay_ms": 300})).await;
    let request = server
        .client
        .post(server.url("/v1/completions"))
        .json(&json!({"model": "q", "prompt": "x"}));
    let running = tokio::spawn(request.send());
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.get("/sim").await.json::<Value>().await.unwrap()["running"] != 1 {
        assert!(Instant::now() < deadline, "the request never ran");
    }
    server.signal("-TERM");
    assert_eq!(running.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(server.exit_code(), Some(0));
}

#[tokio::test]
async fn the_runtime_has_probes_and_metrics_only() {
    let mut server =
        Server::start("--sim-role runtime --engine vllm --engine-base-url http://localhost:8000");
    assert_eq!(server.get("/health").await.status(), StatusCode::OK);
    assert_eq!(server.get("/metrics").await.status(), StatusCode::OK);
    assert_eq!(
        server.get("/v1/models").await.status(),
        StatusCode::NOT_FOUND
    );
    server.signal("-INT");
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn a_worker_lives_until_it_is_told_to_stop() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_sim-vllm"))
        .args(["--sim-role", "worker", "--whatever"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.any(|line| line.contains("worker")));
    let mut worker = Server {
        process,
        address: String::new(),
        client: client(),
    };
    assert!(worker.process.try_wait().unwrap().is_none());
    worker.signal("-TERM");
    assert_eq!(worker.exit_code(), Some(0));
}
