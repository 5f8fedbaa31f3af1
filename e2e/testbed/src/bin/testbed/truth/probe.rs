//! Asks the Gateway and reads the conditions by which the Model says how it is served, again and again, until it is
//! dropped.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::Api;
use kube::api::DynamicObject;
use serde_json::json;
use testbed::{Error, Model, Result};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::timeline::{Answer, Asking, Timeline};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(60);
/// How long an answer may take: the simulated engine takes none.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is asked to find out whether an exposure works.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The Gateways; each has to answer. None: there is nobody to ask.
    pub(super) gateways: Vec<Ipv4Addr>,
    pub(super) port: u16,
    /// The prefix before `/v1`.
    pub(super) path: String,
    /// The host that is asked for; none: the Gateway's address.
    pub(super) host: Option<String>,
    /// The model that the body names.
    pub(super) model: String,
    /// How the names of the pods begin that may answer.
    pub(super) pods: String,
}

impl Question {
    /// For a Model by its own name.
    pub(super) fn of(model: &Model<'_>, gateway: Ipv4Addr) -> Self {
        Self {
            gateways: vec![gateway],
            port: 80,
            path: String::new(),
            host: None,
            model: model.name().to_owned(),
            pods: format!("{}-", model.name()),
        }
    }

    /// The first failure, with the time at which its request was sent; or the success and its end.
    async fn ask(&self, client: &reqwest::Client) -> (Instant, Answer) {
        let mut last = "no Gateway".to_owned();
        let mut began = Instant::now();
        for gateway in &self.gateways {
            began = Instant::now();
            match self.ask_one(client, *gateway).await {
                Ok(text) => last = text,
                Err(text) => return (began, Answer { ok: false, text }),
            }
        }
        let ok = !self.gateways.is_empty();
        let at = if ok { Instant::now() } else { began };
        (at, Answer { ok, text: last })
    }

    async fn ask_one(&self, client: &reqwest::Client, gateway: Ipv4Addr) -> Result<String, String> {
        let url = format!(
            "http://{gateway}:{}{}/v1/chat/completions",
            self.port, self.path
        );
        let mut request = client.post(url).json(&json!({
            "model": self.model,
            "messages": [{"role": "user", "content": "Who are you?"}],
        }));
        if let Some(host) = &self.host {
            request = request.header("host", host);
        }
        let answer = request.send().await.map_err(|e| failure(&e))?;
        let status = answer.status().as_u16().to_string();
        let served_by = answer.headers().get("x-served-by");
        let served_by = served_by
            .and_then(|pod| pod.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        if status != "200" {
            return Err(status);
        }
        // The headers are no whole answer.
        answer.bytes().await.map_err(|e| failure(&e))?;
        if served_by.starts_with(&self.pods) {
            Ok(status)
        } else {
            Err(format!("200 of {served_by:?}"))
        }
    }
}

/// For nobody is there, and for somebody who says nothing: an address that is gone looks like either.
fn failure(error: &reqwest::Error) -> String {
    let silent = error.is_timeout() || error.is_connect();
    if silent { "no answer" } else { "cut off" }.to_owned()
}

/// Looks until it is dropped.
pub(super) struct Probe {
    timeline: Arc<Mutex<Timeline>>,
    question: Arc<Mutex<Question>>,
    _tasks: JoinSet<()>,
}

impl Probe {
    pub(super) fn start(model: &Model<'_>, question: Question) -> Result<Self> {
        let timeline: Arc<Mutex<Timeline>> = Arc::default();
        let question = Arc::new(Mutex::new(question));
        // Each request makes a connection: one that is kept may outlive its listener.
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|e| Error::Other(format!("making a client: {e}")))?;
        let api = model.asking()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(ask(client, Arc::clone(&question), Arc::clone(&timeline)));
        tasks.spawn(read(api, model.name().to_owned(), Arc::clone(&timeline)));
        Ok(Self {
            timeline,
            question,
            _tasks: tasks,
        })
    }

    pub(super) fn timeline(&self) -> MutexGuard<'_, Timeline> {
        lock(&self.timeline)
    }

    pub(super) fn question(&self) -> MutexGuard<'_, Question> {
        lock(&self.question)
    }
}

async fn ask(
    client: reqwest::Client,
    question: Arc<Mutex<Question>>,
    timeline: Arc<Mutex<Timeline>>,
) {
    loop {
        let asked = lock(&question).clone();
        let (at, answer) = asked.ask(&client).await;
        lock(&timeline).answered(at, answer);
        sleep(PAUSE).await;
    }
}

async fn read(api: Api<DynamicObject>, name: String, timeline: Arc<Mutex<Timeline>>) {
    loop {
        if let Ok(found) = api.get_opt(&name).await {
            let asking = found.map(Asking::new);
            lock(&timeline).read(Instant::now(), asking);
        }
        sleep(PAUSE).await;
    }
}

/// No holder of these locks can leave its data half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
