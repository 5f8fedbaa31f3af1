//! The product in one go: Kthena's example Model, annotated, answers through a Gateway; un-annotated,
//! nothing is left.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use testbed::{Error, Model, Namespace, Options, Result, TestBed};

/// Runs it; with `keep`, everything stays until Ctrl-C before the Model is un-annotated.
pub(crate) async fn run(keep: bool) -> Result<()> {
    step("Starting etcd, kube-apiserver, kube-controller-manager, Kthena, a kubelet and a Gateway");
    let bed = TestBed::start(Options::default())?;
    eprintln!("up after {:.1?}", bed.took());

    step("Installing the operator: kubectl apply -k config");
    bed.install_operator().await?;

    step("Applying a Gateway and Kthena's example Model, and annotating the Model");
    let namespace = bed.namespace("demo").await?;
    let address = namespace.gateway("inference-gateway").await?;
    let model = namespace.model("demo").await?;
    for annotation in ["expose=true", "gateway=inference-gateway"] {
        eprintln!("kubectl annotate modelbooster demo kthena-bridge.io/{annotation}");
    }
    model.expose("inference-gateway", &[]).await?;
    conditions(&model).await?;
    eprintln!("objects:");
    for (kind, object) in model.children().await.map_err(Error::Other)? {
        eprintln!("  {kind} {}", object.metadata.name.unwrap_or_default());
    }

    step("Asking it through the Gateway");
    let prompt = json!({"model": "demo", "prompt": "Who are you?", "max_tokens": 16});
    ask(&bed, &format!("http://{address}/v1/completions"), &prompt).await?;
    let mut chat =
        json!({"model": "demo", "messages": [{"role": "user", "content": "Who are you?"}]});
    let url = format!("http://{address}/v1/chat/completions");
    ask(&bed, &url, &chat).await?;
    chat["stream"] = true.into();
    ask_streamed(&url, &chat).await?;

    if keep {
        return stay(&bed, &namespace, &url).await;
    }
    step("Un-annotating it: kubectl annotate modelbooster demo kthena-bridge.io/expose-");
    model.annotate(&[("expose", None)]).await?;
    model.wait_until_withdrawn().await?;
    conditions(&model).await?;
    eprintln!("objects: none");
    Ok(())
}

fn step(what: &str) {
    eprintln!("\n==> {what}");
}

async fn conditions(model: &Model<'_>) -> Result<()> {
    let conditions = model
        .get()
        .await
        .map_err(Error::Other)?
        .status
        .unwrap_or_default()
        .conditions;
    eprintln!("conditions of the Model:");
    for condition in conditions {
        eprintln!(
            "  {}={} {}: {}",
            condition.type_, condition.status, condition.reason, condition.message
        );
    }
    Ok(())
}

/// The Gateway's proxy takes its configuration a moment after the Gateway's statuses have told of it.
async fn ask(bed: &TestBed, url: &str, question: &Value) -> Result<()> {
    eprintln!("$ curl {url} -d '{question}'");
    let what = format!("{url} answers");
    let looked = bed.wait_for(what, Duration::from_secs(5), async || {
        let answer = bed.post(url, &[], question).await?;
        if answer.status == 200 && answer.json()["model"] == question["model"] {
            Ok(answer)
        } else {
            Err(format!("{answer:#?}"))
        }
    });
    let answer = looked.await?;
    eprintln!("{} {}", answer.status, answer.body.trim());
    Ok(())
}

async fn ask_streamed(url: &str, question: &Value) -> Result<()> {
    eprintln!("$ curl --no-buffer {url} -d '{question}'");
    let failed = |error: reqwest::Error| Error::Other(format!("{url}: {error:?}"));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()
        .map_err(failed)?;
    let mut chunks = client
        .post(url)
        .json(question)
        .send()
        .await
        .map_err(failed)?
        .bytes_stream();
    let mut text = String::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = String::from_utf8_lossy(&chunk.map_err(failed)?).into_owned();
        eprint!("{chunk}");
        text.push_str(&chunk);
    }
    if text.contains("data: {") && text.trim_end().ends_with("data: [DONE]") {
        return Ok(());
    }
    Err(Error::Other(format!("not a stream of events: {text}")))
}

async fn stay(bed: &TestBed, namespace: &Namespace<'_>, url: &str) -> Result<()> {
    step("Left running. From another terminal, in this folder:");
    let reach = format!("e2e/sandbox --join {}", bed.sandbox().pid);
    eprintln!(
        "{reach} {} --kubeconfig {} --namespace {} get modelboosters,httproutes,inferencepools,pods",
        bed.parts().join("bin/kubectl").display(),
        bed.kubeconfig().display(),
        namespace.name()
    );
    let question =
        r#"{"model": "demo", "messages": [{"role": "user", "content": "Who are you?"}]}"#;
    eprintln!("{reach} curl {url} -H 'content-type: application/json' -d '{question}'");
    eprintln!("Ctrl-C ends it and leaves nothing.");
    bed.until_stopped().await
}
