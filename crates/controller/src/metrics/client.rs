//! What is asked of the API server, under the name that client-go has for it.
//! <https://pkg.go.dev/k8s.io/client-go/tools/metrics>

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tower::{Layer, Service};

/// Requests, by what became of them.
#[derive(Clone, Debug)]
pub(super) struct Requests(Family<RequestLabels, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: String,
    method: String,
    host: String,
}

impl Requests {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let requests = Family::default();
        registry.register(
            "rest_client_requests",
            "Requests to the API server, by the answer's code",
            requests.clone(),
        );
        Self(requests)
    }

    /// Counts the requests to a host.
    pub(super) fn to(&self, host: &str) -> Counting {
        Counting {
            requests: self.clone(),
            host: host.to_owned(),
        }
    }
}

/// Counts requests.
#[derive(Clone, Debug)]
pub(crate) struct Counting {
    requests: Requests,
    host: String,
}

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted {
            inner,
            counting: self.clone(),
        }
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    counting: Counting,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let mut sent = Sent {
            requests: self.counting.requests.clone(),
            labels: RequestLabels {
                code: "<error>".to_owned(),
                method: request.method().as_str().to_owned(),
                host: self.counting.host.clone(),
            },
        };
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await?;
            answer.status().as_str().clone_into(&mut sent.labels.code);
            Ok(answer)
        }
        .boxed()
    }
}

/// A request that was sent. It is counted also when nobody waits for its answer any longer.
struct Sent {
    requests: Requests,
    labels: RequestLabels,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.requests.0.get_or_create(&self.labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use tower::{BoxError, ServiceExt as _, service_fn};

    use super::super::tests::encoded;
    use super::*;

    #[tokio::test]
    async fn a_request_counts_by_its_answer_or_for_having_none() {
        let mut registry = Registry::default();
        let counting = Requests::register(&mut registry).to("10.96.0.1:443");
        let service = counting.layer(service_fn(async |request: Request<()>| {
            match request.uri().path() {
                "/silent" => std::future::pending().await,
                "/refused" => Err(BoxError::from("refused")),
                _ => Ok(Response::builder().status(404).body(()).unwrap()),
            }
        }));
        let ask = |path| {
            service
                .clone()
                .oneshot(Request::get(path).body(()).unwrap())
        };
        assert_eq!(ask("/").await.unwrap().status(), 404);
        ask("/refused").await.unwrap_err();
        assert!(ask("/silent").now_or_never().is_none());
        let text = encoded(&registry);
        for (code, count) in [("404", 1), ("<error>", 2)] {
            let labels = format!("code=\"{code}\",method=\"GET\",host=\"10.96.0.1:443\"");
            let line = format!("rest_client_requests_total{{{labels}}} {count}");
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }
}
