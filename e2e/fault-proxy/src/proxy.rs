//! The proxy: HTTP for its client, and the API server's TLS and credentials behind it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use http::{HeaderMap, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::events::{Events, Next};
use crate::plan::{Action, Fault, Refusal, Script, WatchFault};
use crate::request::{Request, Verb, is_watch};

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;
type Frames = mpsc::Sender<Result<Frame<Bytes>, io::Error>>;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it was about.
    pub request: Request,
    /// Its body.
    pub body: Bytes,
    /// When it came.
    pub at: Instant,
    /// What became of it by the plan.
    pub action: Option<Action>,
    /// The HTTP status of the API server's answer; nothing while there is none, and when it was not asked.
    pub code: Option<u16>,
    /// The API server's message where it refused.
    pub refused: Option<String>,
}

impl Seen {
    /// Whether it changed something in the cluster.
    pub fn wrote(&self) -> bool {
        self.request.writes() && self.code.is_some_and(|code| (200..300).contains(&code))
    }
}

/// What was passed on of a watch is sent as soon as nothing follows it; a reset that follows at once discards it.
const FLUSH: Duration = Duration::from_millis(20);

/// A proxy before the API server. It ends when it is dropped, and with it all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    client: Opaque<Client>,
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    /// The watches that are open, each with what is to go wrong with it.
    open: Mutex<Vec<(Request, watch::Sender<Option<WatchFault>>)>>,
    /// Whether the client is to be killed: nothing is passed on while it is.
    crashed: watch::Sender<bool>,
    /// How often watches that fell silent were had go on.
    thaws: watch::Sender<u64>,
    /// How often that was when the plan began.
    begun: AtomicU64,
    /// How often something went wrong with a watch since the plan began.
    tampered: AtomicU32,
}

/// [`Client`] has no `Debug`.
struct Opaque<T>(T);

impl<T> std::fmt::Debug for Opaque<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    /// Listens on a port of 127.0.0.1, and passes everything on by `client`, with its credentials.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(client: Client) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            client: Opaque(client),
            script: Mutex::default(),
            seen: Mutex::default(),
            open: Mutex::default(),
            crashed: watch::Sender::new(false),
            thaws: watch::Sender::new(0),
            begun: AtomicU64::new(0),
            tampered: AtomicU32::new(0),
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self {
            address,
            state,
            serving,
        })
    }

    /// Where it listens; it speaks HTTP without TLS.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Begins with a plan, and counts anew. Watches that are open already are taken as if they came now, in the
    /// order in which they did.
    pub fn begin(&self, faults: Vec<Fault>) {
        // Whoever is still silent by the plan before goes on.
        self.thaw();
        self.state
            .begun
            .store(*self.state.thaws.borrow(), Ordering::Relaxed);
        self.state.tampered.store(0, Ordering::Relaxed);
        let mut script = lock(&self.state.script);
        *script = Script::new(faults);
        let mut open = lock(&self.state.open);
        open.retain(|(_, tamper)| !tamper.is_closed());
        for (request, tamper) in &*open {
            let fault = match script.next(request) {
                Some(Action::Watch(fault)) => Some(fault),
                _ => None,
            };
            // What the plan before had for it is over.
            tamper
                .send_if_modified(|now| std::mem::replace(now, fault).is_some() || fault.is_some());
        }
    }

    /// The requests so far, in the order in which they came, without the first `from` of them.
    pub fn seen(&self, from: usize) -> Vec<Seen> {
        let seen = lock(&self.state.seen);
        seen.get(from..).unwrap_or_default().to_vec()
    }

    /// How often something went wrong with a watch since the plan began.
    pub fn tampered(&self) -> u32 {
        self.state.tampered.load(Ordering::Relaxed)
    }

    /// How many requests came so far: where [`Self::seen`] ends now.
    pub fn count(&self) -> usize {
        lock(&self.state.seen).len()
    }

    /// Waits until the plan says that the client is to be killed. From then on nothing is passed on.
    pub async fn crashed(&self) {
        // The sender is part of `self`.
        let _ = self
            .state
            .crashed
            .subscribe()
            .wait_for(|crashed| *crashed)
            .await;
    }

    /// Whether the client is to be killed, and nothing is passed on.
    pub fn is_crashed(&self) -> bool {
        *self.state.crashed.borrow()
    }

    /// Passes on again: the client was killed, and is started anew.
    pub fn reopen(&self) {
        self.state.crashed.send_replace(false);
    }

    /// Has the watches go on that fell silent.
    pub fn thaw(&self) {
        self.state.thaws.send_modify(|thaws| *thaws += 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&state)))),
                Err(error) => tracing::warn!(%error, "a connection is not accepted"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection. To reset it, its socket is kept beyond what serves it: what closes it last decides.
async fn connection(stream: TcpStream, state: Arc<State>) {
    let socket = stream
        .as_fd()
        .try_clone_to_owned()
        .map(socket2::Socket::from);
    let reset = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request| answer(request, Arc::clone(&state), Arc::clone(&reset)));
    // It fails where the plan wants it to, and when the client is gone.
    let served = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    tracing::trace!(?served, "a connection ended");
    if let (true, Ok(socket)) = (reset.load(Ordering::Relaxed), socket) {
        // Without time to linger, closing is resetting.
        let _ = socket.set_linger(Some(Duration::ZERO));
    }
}

/// Answers a request; an error closes the connection without an answer.
async fn answer(
    request: http::Request<Incoming>,
    state: Arc<State>,
    reset: Arc<AtomicBool>,
) -> Result<Answer, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let query = head.uri.query().unwrap_or_default();
    let about = Request::parse(&head.method, head.uri.path(), query).named(&body);
    let (number, action) = {
        // Nothing may come between what is decided and what is noted.
        let mut seen = lock(&state.seen);
        if *state.crashed.borrow() {
            drop(seen);
            return std::future::pending().await;
        }
        let action = lock(&state.script).next(&about);
        if matches!(action, Some(Action::CrashBefore | Action::CrashAfter)) {
            state.crashed.send_if_modified(|crashed| {
                // Who waits for the crash is told when the write is done.
                *crashed = true;
                action == Some(Action::CrashBefore)
            });
        }
        seen.push(Seen {
            request: about.clone(),
            body: body.clone(),
            at: Instant::now(),
            action: action.clone(),
            code: None,
            refused: None,
        });
        (seen.len() - 1, action)
    };
    let broken = || {
        reset.store(true, Ordering::Relaxed);
        io::Error::other("the plan resets the connection")
    };
    match &action {
        Some(Action::CrashBefore | Action::Hang) => return std::future::pending().await,
        Some(Action::Reset) => return Err(broken()),
        Some(Action::Refuse(refusal)) => return Ok(refuse(refusal)),
        Some(Action::Delay(time)) => tokio::time::sleep(*time).await,
        _ => {}
    }
    let mut uri = head.uri.clone();
    let watches = is_watch(query);
    // The past cannot be streamed: the client has to ask for a list.
    if watches && matches!(action, Some(Action::Unstreamed | Action::AsOf(_))) {
        return Ok(refuse(&Refusal::with(422)));
    }
    if let Some(Action::AsOf(version)) = &action {
        uri = as_of(&uri, version)?;
    }
    let mut passed = http::Request::builder()
        .method(head.method.clone())
        .uri(uri);
    if let Some(headers) = passed.headers_mut() {
        *headers = end_to_end(&head.headers);
    }
    let passed = passed
        .body(Body::from(body.to_vec()))
        .map_err(io::Error::other)?;
    let answered = state.client.0.send(passed).await;
    let (head, body) = answered.map_err(io::Error::other)?.into_parts();
    let mut response = Response::builder().status(head.status);
    if let Some(headers) = response.headers_mut() {
        *headers = end_to_end(&head.headers);
    }
    if watches && head.status.is_success() {
        state.note(number, head.status, None);
        let fault = match action {
            Some(Action::Watch(fault)) => Some(fault),
            // Before the first event.
            Some(Action::Truncate(_)) => Some(WatchFault::Cut(0)),
            _ => None,
        };
        // From now on it is one like others.
        let watch = Request {
            verb: Verb::Watch,
            ..about
        };
        let body = state.tampered(watch, body, fault, reset);
        return response.body(body).map_err(io::Error::other);
    }
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let refused = (!head.status.is_success()).then(|| String::from_utf8_lossy(&body).into_owned());
    state.note(number, head.status, refused);
    let body = match action {
        Some(Action::CrashAfter) => {
            state.crashed.send_replace(true);
            return std::future::pending().await;
        }
        Some(Action::Lose) => return Err(broken()),
        Some(Action::Truncate(bytes)) => {
            let kept = body.slice(..bytes.min(body.len()));
            let cut = io::Error::other("the plan cuts the answer short");
            StreamBody::new(stream::iter([Ok(Frame::data(kept)), Err(cut)])).boxed_unsync()
        }
        _ => whole(body),
    };
    response.body(body).map_err(io::Error::other)
}

impl State {
    fn note(&self, number: usize, code: StatusCode, refused: Option<String>) {
        if let Some(seen) = lock(&self.seen).get_mut(number) {
            (seen.code, seen.refused) = (Some(code.as_u16()), refused);
        }
    }

    /// Waits until the watches that fell silent go on, which they did `before` times.
    async fn until_thaw(&self, before: u64) {
        let mut thaws = self.thaws.subscribe();
        // The sender is part of `self`.
        let _ = thaws.wait_for(|thaws| *thaws > before).await;
    }

    /// The events of a watch, with what goes wrong with it now or later.
    fn tampered(
        self: &Arc<Self>,
        request: Request,
        body: Body,
        fault: Option<WatchFault>,
        reset: Arc<AtomicBool>,
    ) -> UnsyncBoxBody<Bytes, io::Error> {
        let (tamper, tampered) = watch::channel(fault);
        lock(&self.open).push((request, tamper));
        let (frames, passed) = mpsc::channel(16);
        let state = Arc::clone(self);
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = pass_on(body, tampered, &state, &frames) => ended,
                () = frames.closed() => Ok(()),
            };
            if let Err(error) = ended {
                tokio::time::sleep(FLUSH).await;
                reset.store(true, Ordering::Relaxed);
                let _ = frames.send(Err(error)).await;
            }
        });
        let passed = stream::unfold(passed, async |mut passed| {
            let frame = passed.recv().await?;
            Some((frame, passed))
        });
        StreamBody::new(passed).boxed_unsync()
    }
}

/// Passes events on until the watch ends; an error is to reset the connection.
async fn pass_on(
    body: Body,
    mut tampered: watch::Receiver<Option<WatchFault>>,
    state: &State,
    frames: &Frames,
) -> io::Result<()> {
    let mut events = Events::new(*tampered.borrow_and_update());
    let mut begun = state.begun.load(Ordering::Relaxed);
    let mut pieces = body.into_data_stream();
    // What has come and is not passed on yet.
    let mut lines = VecDeque::new();
    loop {
        if tampered.has_changed().unwrap_or_default() {
            events.tamper(*tampered.borrow_and_update());
            begun = state.begun.load(Ordering::Relaxed);
        }
        let next = match events.due() {
            // What fell silent and goes on is not silent again by the same plan.
            Some(Next::Thaw | Next::Expire(_)) if *state.thaws.borrow() > begun => None,
            due => due,
        };
        let next = next.or_else(|| lines.pop_front().map(|line| events.next(line)));
        let Some(next) = next else {
            tokio::select! {
                Ok(()) = tampered.changed() => tampered.mark_changed(),
                piece = pieces.next() => match piece {
                    Some(piece) => lines.extend(events.lines(&piece.map_err(io::Error::other)?)),
                    None => return Ok(()),
                },
            }
            continue;
        };
        if !matches!(next, Next::Pass(_)) {
            state.tampered.fetch_add(1, Ordering::Relaxed);
        }
        let (line, ends) = match next {
            Next::Pass(line) => (line, false),
            Next::Last(line) => (line, true),
            Next::Thaw => {
                state.until_thaw(begun).await;
                continue;
            }
            Next::Expire(line) => {
                state.until_thaw(begun).await;
                (line, true)
            }
            Next::Reset => return Err(io::Error::other("the plan resets the connection")),
        };
        let passed = line.is_empty() || frames.send(Ok(Frame::data(line.into()))).await.is_ok();
        if ends || !passed {
            return Ok(());
        }
    }
}

fn whole(body: Bytes) -> UnsyncBoxBody<Bytes, io::Error> {
    Full::new(body)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

fn refuse(refusal: &Refusal) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": refusal.code, "reason": refusal.reason, "message": refusal.message,
    });
    let mut response = Response::new(whole(status.to_string().into()));
    *response.status_mut() =
        StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    if let Some(seconds) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The same list, of the past.
fn as_of(uri: &Uri, version: &str) -> io::Result<Uri> {
    let query = uri.query().unwrap_or_default().split('&');
    let kept: Vec<&str> = query
        .filter(|q| !q.is_empty() && !q.starts_with("resourceVersion"))
        .collect();
    let path = uri.path();
    let (kept, exact) = (
        kept.join("&"),
        format!("resourceVersion={version}&resourceVersionMatch=Exact"),
    );
    let and = if kept.is_empty() { "" } else { "&" };
    format!("{path}?{kept}{and}{exact}")
        .parse()
        .map_err(io::Error::other)
}

/// The headers that are not about this connection, nor about who asks.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [
        header::AUTHORIZATION,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::HOST,
        header::TRANSFER_ENCODING,
    ] {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_the_past_is_asked_for_exactly() {
        let of = |uri: &'static str| as_of(&Uri::from_static(uri), "7").unwrap().to_string();
        assert_eq!(
            of("/api/v1/pods"),
            "/api/v1/pods?resourceVersion=7&resourceVersionMatch=Exact"
        );
        assert_eq!(
            of("/api/v1/pods?limit=5&resourceVersion=0"),
            "/api/v1/pods?limit=5&resourceVersion=7&resourceVersionMatch=Exact"
        );
    }
}
