//! The gateway: the stand-in for Istio's control plane, its Envoy, and requests to it.

use std::{
    fmt::Display, net::Ipv4Addr, os::unix::fs::PermissionsExt as _, path::Path, time::Duration,
};

use kube::{
    Api, Client,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::{
    Namespace, TestBed,
    error::{Context as _, Result},
    sandbox::Sandbox,
};

/// How long a Gateway may take to answer for a Model as it should.
const SERVED: Duration = Duration::from_secs(40);
/// The class that tests' Gateways name; Istio's own.
const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: istio}
spec: {controllerName: istio.io/gateway-controller}
";
/// A Gateway that admits HTTPRoutes of its own namespace, as the guide's does.
const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: NAME}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP}]
";
/// Without it there can be no class.
pub(crate) const CLASS_CRD: &str = "gatewayclasses.gateway.networking.k8s.io";
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// What came back from a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The pod that answered, as the simulated vLLM says.
    pub fn served_by(&self) -> Option<&str> {
        let header = self.headers.iter().find(|(name, _)| name == "x-served-by");
        header.map(|(_, pod)| pod.as_str())
    }
}

/// What the stand-in needs, in folders of the bed.
pub(crate) fn config(
    envoy: &Path,
    dir: &Path,
    log: &Path,
    sandbox: &Sandbox,
) -> Result<stand_in_gateway::Config> {
    let dir = dir.join("gateway");
    std::fs::create_dir_all(&dir).context(|| format!("creating {}", dir.display()))?;
    // Envoy has to end with a test binary that ends without a word, as the other components do.
    let mortal = dir.join("envoy");
    let script = format!(
        "#!/bin/sh\nexec setpriv --pdeathsig KILL -- '{}' \"$@\"\n",
        envoy.display()
    );
    std::fs::write(&mortal, script)
        .and_then(|()| std::fs::set_permissions(&mortal, std::fs::Permissions::from_mode(0o755)))
        .context(|| format!("writing {}", mortal.display()))?;
    Ok(stand_in_gateway::Config {
        envoy: mortal,
        log: log.to_owned(),
        admin_port: 9901,
        addresses: sandbox.gateway_addresses(),
        interface: sandbox.bridge.clone(),
        dir,
    })
}

/// Creates the GatewayClass `istio`.
pub(crate) async fn create_class(client: &Client) -> Result<()> {
    let class: Value = serde_yaml::from_str(CLASS)
        .map_err(|e| crate::Error::Other(format!("reading the GatewayClass: {e}")))?;
    crate::namespace::apply(client, "", &class).await.map(drop)
}

impl Namespace<'_> {
    /// Makes a Gateway and gives its address.
    pub async fn gateway(&self, name: &str) -> Result<Ipv4Addr> {
        self.apply(&GATEWAY.replace("NAME", name)).await?;
        self.bed().gateway_address(self.name(), name).await
    }
}

impl TestBed {
    /// The address of a Gateway, once it is programmed.
    pub async fn gateway_address(&self, namespace: &str, name: &str) -> Result<Ipv4Addr> {
        let gvk = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway");
        let resource = ApiResource::from_gvk(&gvk);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client()?, namespace, &resource);
        let what = format!("Gateway {namespace}/{name} is programmed and has an address");
        self.wait_for(&what, Duration::from_secs(15), async || {
            let gateway = api.get(name).await.map_err(|e| e.to_string())?;
            let status = &gateway.data["status"];
            let programmed = status["conditions"].as_array().into_iter().flatten();
            let programmed = programmed
                .filter(|c| c["type"] == "Programmed" && c["status"] == "True")
                .count()
                > 0;
            let address = status["addresses"][0]["value"]
                .as_str()
                .and_then(|a| a.parse().ok());
            address
                .filter(|_| programmed)
                .ok_or_else(|| format!("{status:#}"))
        })
        .await
    }

    /// Asks a Gateway for a chat completion: `gateway` is its address, with the port where it is not 80, and
    /// `path` what comes before that of the API.
    pub async fn ask(
        &self,
        gateway: impl Display,
        path: &str,
        model: &str,
    ) -> Result<Answer, String> {
        self.ask_with(gateway, path, model, &[]).await
    }

    /// The same with headers beside the usual ones.
    pub async fn ask_with(
        &self,
        gateway: impl Display,
        path: &str,
        model: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let question =
            json!({"model": model, "messages": [{"role": "user", "content": "Who are you?"}]});
        let url = format!("http://{gateway}{path}/v1/chat/completions");
        self.post(&url, headers, &question).await
    }

    /// Asks until there is an answer with this status: the statuses of a Gateway are written before Envoy has
    /// the configuration that they speak of.
    pub async fn wait_for_answer(
        &self,
        gateway: impl Display,
        path: &str,
        model: &str,
        status: u16,
    ) -> Result<Answer> {
        let what = format!("http://{gateway}{path} answers {model} with {status}");
        self.wait_for(&what, SERVED, async || {
            let answer = self.ask(&gateway, path, model).await?;
            if answer.status == status {
                Ok(answer)
            } else {
                Err(format!("{answer:?}"))
            }
        })
        .await
    }

    /// Posts JSON with headers beside the usual ones; `host` among them replaces that of `url`.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, String> {
        let mut request = http()?.post(url).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request).await
    }

    /// Gets a URL.
    pub async fn get(&self, url: &str) -> Result<Answer, String> {
        answer(http()?.get(url)).await
    }
}

/// A client for one request: like one of the API server, it belongs to the runtime that uses it.
fn http() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(ANSWER)
        .build()
        .map_err(|e| e.to_string())
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let response = request.send().await.map_err(|e| format!("{e:?}"))?;
    let headers = response.headers().iter();
    let headers = headers.map(|(name, value)| {
        (
            name.to_string(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    });
    Ok(Answer {
        status: response.status().as_u16(),
        headers: headers.collect(),
        body: response.text().await.map_err(|e| format!("{e:?}"))?,
    })
}
