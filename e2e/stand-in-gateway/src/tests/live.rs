//! A real Envoy on the configuration that is made: what requests really become.
//!
//! The endpoint picker is left out: the test bed runs the real one.

use std::{
    env, fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::{cluster, gateway_with, http, namespace, options, pod, pool, route, service, to_pool};
use crate::{
    Config, Snapshot,
    envoy::{Envoy, Files},
    snapshot::Key,
    translate, xds,
};

const NAMESPACE: &str = "apps";

fn envoy_binary() -> PathBuf {
    let parts = env::var_os("KTHENA_BRIDGE_PARTS");
    let parts = parts.expect(
        "KTHENA_BRIDGE_PARTS must name the folder that e2e/parts/fetch prints: Envoy is in it",
    );
    Path::new(&parts).join("bin/envoy")
}

/// A folder that is removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("stand-in-gateway-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Answers every request with its own name and what it was asked for.
async fn echo(name: &'static str, listener: TcpListener) {
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(name, connection));
    }
}

async fn answer(name: &str, mut connection: TcpStream) {
    let mut request = Vec::new();
    while connection
        .read_buf(&mut request)
        .await
        .is_ok_and(|read| read > 0)
    {
        let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).into_owned();
        let path = head.split(' ').nth(1).unwrap();
        let body = json!({"name": name, "path": path, "head": head}).to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if connection.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        request.drain(..end + 4);
    }
}

/// Where the gateway and the model servers of one test listen: addresses that no other test has, also not
/// one of another process.
fn loopback(test: u8, host: u8) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 0x80, low, test * 8 + host)
}

const PORT: u16 = 8080;

struct Bed {
    test: u8,
    folder: Folder,
    files: Files,
    /// Held for as long as it is to run.
    _envoy: Envoy,
    client: reqwest::Client,
}

impl Bed {
    /// Two model servers on addresses of their own, and an Envoy without a configuration.
    async fn start(name: &str) -> Self {
        static TESTS: AtomicU8 = AtomicU8::new(1);
        let test = TESTS.fetch_add(1, Ordering::Relaxed);
        for (host, name) in [(2, "first"), (3, "second")] {
            let listener = TcpListener::bind((loopback(test, host), PORT))
                .await
                .unwrap();
            tokio::spawn(echo(name, listener));
        }
        let folder = Folder::new(name);
        let mut files = Files::new(&folder.0).unwrap();
        files.write(&xds::Xds::default()).unwrap();
        let config = Config {
            envoy: envoy_binary(),
            dir: folder.0.clone(),
            log: folder.0.join("log"),
            admin_port: 0,
            addresses: loopback(test, 1)..=loopback(test, 1),
            interface: "lo".to_owned(),
        };
        let envoy = Envoy::start(&config).unwrap();
        Self {
            test,
            folder,
            files,
            _envoy: envoy,
            client: {
                // A build of the whole workspace gives reqwest TLS, and no provider for it.
                let _ = rustls::crypto::ring::default_provider().install_default();
                reqwest::Client::new()
            },
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}:{PORT}{path}", loopback(self.test, 1))
    }

    fn snapshot(&self, rules: Value, failure_mode: &str) -> Snapshot {
        let spec = json!({"parentRefs": [{"name": "gw"}], "rules": rules});
        let mut snapshot = cluster([
            namespace(NAMESPACE, json!({})),
            gateway_with(NAMESPACE, "gw", json!([http(json!({"port": PORT}))])),
            pool(NAMESPACE, "p", PORT, failure_mode),
            service(
                NAMESPACE,
                "p-epp",
                json!({"name": "grpc-ext-proc", "port": 9002}),
            ),
            pod(NAMESPACE, "p", &loopback(self.test, 2).to_string()),
            pod(NAMESPACE, "p", &loopback(self.test, 3).to_string()),
            route(NAMESPACE, "r", spec),
        ]);
        snapshot
            .addresses
            .insert(Key::new(NAMESPACE, "gw"), loopback(self.test, 1));
        snapshot
    }

    fn apply(&mut self, snapshot: &Snapshot) {
        self.files
            .write(&translate(snapshot, &options(&self.folder.0)).0)
            .unwrap();
    }

    async fn get(&self, path: &str) -> Result<reqwest::Response, reqwest::Error> {
        self.client.get(self.url(path)).send().await
    }

    async fn post(&self, path: &str) -> StatusCode {
        let request = self
            .client
            .post(self.url(path))
            .json(&json!({"model": "m"}));
        request.send().await.unwrap().status()
    }

    /// Waits until this path is answered so, and returns the answer.
    async fn answers(&self, path: &str, expected: StatusCode) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = match self.get(path).await {
                Ok(answer) if answer.status() == expected => return answer.text().await.unwrap(),
                Ok(answer) => format!("{}", answer.status()),
                Err(error) => format!("{error:?}"),
            };
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.0.join("log")).unwrap_or_default();
                panic!("{path} should be answered {expected}, and is {seen}; Envoy's log:\n{log}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn echoed(&self, path: &str) -> Value {
        serde_json::from_str(&self.answers(path, StatusCode::OK).await).unwrap()
    }
}

fn rule(path: &str, filters: Value) -> Value {
    let matches = json!([{"path": {"type": "PathPrefix", "value": path}}]);
    json!({"matches": matches, "filters": filters, "backendRefs": to_pool("p"), "timeouts": {"request": "30s"}})
}

fn rewrite(path: &str, new: &str) -> Value {
    let path_modifier = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": new});
    rule(
        path,
        json!([{"type": "URLRewrite", "urlRewrite": {"path": path_modifier}}]),
    )
}

#[tokio::test]
async fn a_pool_without_its_picker_fails_as_it_asks_to() {
    let mut bed = Bed::start("picker").await;
    bed.apply(&bed.snapshot(json!([rule("/", json!([]))]), "FailOpen"));
    let mut names = Vec::new();
    for _ in 0..8 {
        names.push(bed.echoed("/").await["name"].as_str().unwrap().to_owned());
    }
    for name in ["first", "second"] {
        assert!(
            names.iter().any(|seen| seen == name),
            "failing open should go round-robin, but went {names:?}"
        );
    }
    assert_eq!(bed.post("/").await, StatusCode::OK);

    bed.apply(&bed.snapshot(json!([rule("/", json!([]))]), "FailClose"));
    bed.answers("/", StatusCode::INTERNAL_SERVER_ERROR).await;

    let mut snapshot = bed.snapshot(json!([rule("/", json!([]))]), "FailOpen");
    snapshot.pods.clear();
    bed.apply(&snapshot);
    bed.answers("/", StatusCode::SERVICE_UNAVAILABLE).await;

    snapshot.inference_pools.clear();
    bed.apply(&snapshot);
    bed.answers("/", StatusCode::INTERNAL_SERVER_ERROR).await;

    snapshot.http_routes.clear();
    bed.apply(&snapshot);
    bed.answers("/", StatusCode::NOT_FOUND).await;
}

/// Once a part of the body has been sent to the picker, Envoy has it no more and can't fail open. A picker
/// that still has an endpoint is connected to while the body is sent, so it fails open only for requests
/// without a body. It is so with Istio: <https://github.com/envoyproxy/envoy/pull/41276>
#[tokio::test]
async fn failing_open_needs_a_picker_without_endpoints_or_a_request_without_a_body() {
    let mut bed = Bed::start("refused").await;
    let mut snapshot = bed.snapshot(json!([rule("/", json!([]))]), "FailOpen");
    let slice = json!({
        "kind": "EndpointSlice",
        "metadata": {"namespace": NAMESPACE, "name": "s", "labels": {"kubernetes.io/service-name": "p-epp"}},
        "addressType": "IPv4",
        "ports": [{"name": "grpc-ext-proc", "port": 9002}],
        "endpoints": [{"addresses": [loopback(bed.test, 4)]}],
    });
    snapshot.endpoint_slices = cluster([slice]).endpoint_slices;
    bed.apply(&snapshot);
    bed.answers("/", StatusCode::OK).await;
    assert_eq!(bed.post("/").await, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn prefixes_match_and_are_replaced_by_whole_elements() {
    let mut bed = Bed::start("rewrite").await;
    let rules = json!([
        rewrite("/a", "/"),
        rewrite("/a/longer", "/b"),
        rewrite("/c.d", "/e/"),
        rewrite("/f/", "/"),
        rule("/kept", json!([])),
    ]);
    bed.apply(&bed.snapshot(rules, "FailOpen"));
    for (asked, got) in [
        ("/a", "/"),
        ("/a/", "/"),
        ("/a/v1/x", "/v1/x"),
        ("/a/v1/x?q=/a/1", "/v1/x?q=/a/1"),
        ("/a?x=1", "/?x=1"),
        ("/a/a/x", "/a/x"),
        ("/a/longer", "/b"),
        ("/a/longer/x", "/b/x"),
        ("/a/longerx", "/longerx"),
        ("/c.d/x?y", "/e/x?y"),
        ("/f/x", "/x"),
        ("/f", "/"),
        ("/kept/x?y=1", "/kept/x?y=1"),
    ] {
        assert_eq!(bed.echoed(asked).await["path"], got, "{asked}");
    }
    for asked in ["/ab", "/cxd", "/keptx", "/"] {
        bed.answers(asked, StatusCode::NOT_FOUND).await;
    }
}

#[tokio::test]
async fn headers_are_matched_and_changed() {
    let mut bed = Bed::start("headers").await;
    let modifier = json!({
        "set": [{"name": "x-set", "value": "new"}],
        "add": [{"name": "x-add", "value": "more"}],
        "remove": ["x-gone"],
    });
    let mut rule = rule(
        "/",
        json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}]),
    );
    rule["matches"][0]["headers"] =
        json!([{"type": "Exact", "name": "X-Gateway-Model-Name", "value": "demo"}]);
    bed.apply(&bed.snapshot(json!([rule]), "FailOpen"));
    bed.answers("/", StatusCode::NOT_FOUND).await;
    let url = bed.url("/");
    let request = bed
        .client
        .get(url)
        .header("x-gateway-model-name", "demo")
        .header("x-set", "old")
        .header("x-gone", "1");
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let head = answer["head"].as_str().unwrap().to_lowercase();
    assert!(
        head.contains("x-set: new") && head.contains("x-add: more"),
        "{head}"
    );
    assert!(
        !head.contains("x-gone") && !head.contains("x-set: old"),
        "{head}"
    );
}

#[test]
fn envoy_finds_all_of_the_configuration_valid() {
    let folder = Folder::new("valid");
    let mut files = Files::new(&folder.0).unwrap();
    let rule = json!({
        "kind": "DestinationRule",
        "metadata": {"namespace": NAMESPACE, "name": "p-epp"},
        "spec": {"host": "p-epp", "trafficPolicy": {"tls": {"mode": "SIMPLE", "insecureSkipVerify": false}}},
    });
    let mut h2 = pool(NAMESPACE, "h2", 8000, "FailClose");
    h2["spec"]["appProtocol"] = json!("kubernetes.io/h2c");
    let weighted =
        json!([to_pool("p")[0], to_pool("h2")[0], {"name": "p-epp", "port": 9002, "weight": 3}]);
    let matches = json!([{
        "path": {"type": "RegularExpression", "value": "/x.*"},
        "method": "GET",
        "headers": [{"type": "RegularExpression", "name": "a", "value": "b+"}],
        "queryParams": [{"name": "q", "value": "1"}],
    }]);
    let full = json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/y"}, "hostname": "y.example.com"});
    let filters = json!([{"type": "URLRewrite", "urlRewrite": full}]);
    let rules = json!([
        rewrite("/a", "/"),
        {"matches": matches, "filters": filters, "backendRefs": weighted},
        {"filters": [{"type": "CORS"}], "backendRefs": to_pool("p")},
    ]);
    let snapshot = cluster([
        gateway_with(
            NAMESPACE,
            "gw",
            json!([
                http(json!({})),
                http(json!({"name": "b", "hostname": "*.example.com"}))
            ]),
        ),
        pool(NAMESPACE, "p", 8000, "FailOpen"),
        h2,
        service(
            NAMESPACE,
            "p-epp",
            json!({"port": 9002, "appProtocol": "kubernetes.io/h2c"}),
        ),
        rule,
        route(
            NAMESPACE,
            "r",
            json!({"parentRefs": [{"name": "gw"}], "rules": rules}),
        ),
    ]);
    let (xds, _) = translate(&snapshot, &options(&folder.0));
    files.write(&xds).unwrap();

    // Validation does not read what is subscribed to, so here the resources are a part of the bootstrap.
    let mut bootstrap = xds::bootstrap(&folder.0, 0);
    bootstrap
        .as_object_mut()
        .unwrap()
        .remove("dynamic_resources");
    let untyped = |resource: &Value| {
        let mut resource = resource.clone();
        resource.as_object_mut().unwrap().remove("@type");
        resource
    };
    let mut listeners: Vec<_> = xds
        .listeners
        .iter()
        .map(|(name, listener)| (name, untyped(listener)))
        .collect();
    for (name, listener) in &mut listeners {
        let manager = listener
            .pointer_mut("/filter_chains/0/filters/0/typed_config")
            .unwrap();
        manager.as_object_mut().unwrap().remove("rds");
        manager["route_config"] = untyped(&xds.routes[*name]);
        manager["route_config"]["validate_clusters"] = json!(false);
    }
    bootstrap["static_resources"] = json!({
        "listeners": listeners.into_iter().map(|(_, listener)| listener).collect::<Vec<_>>(),
        "clusters": xds.clusters.values().map(untyped).collect::<Vec<_>>(),
    });
    let path = folder.0.join("static.json");
    fs::write(&path, bootstrap.to_string()).unwrap();
    let output = Command::new(envoy_binary())
        .args(["--mode", "validate", "--config-path"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(xds.clusters.len(), 2 + 2 + 1);
}
