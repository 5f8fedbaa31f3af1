//! What a request to the API server is about.

use std::fmt;

use http::Method;

/// What is done, by the names that the API server's authorization has for it.
/// <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Of one object, or of something that is no resource.
    Get,
    /// Of a collection, also one that is streamed and goes on as a watch.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>
    List,
    /// Of a collection, and what becomes of it.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH, server-side apply included.
    Patch,
    /// Of one object.
    Delete,
    /// Of a collection.
    DeleteCollection,
}

impl Verb {
    /// Whether it changes something.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// What a request is about. Of a request that is for no resource, such as discovery, all but the verb is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// What is done.
    pub verb: Verb,
    /// The API group, `""` for the core one.
    pub group: String,
    /// The plural of the kind.
    pub resource: String,
    /// Such as `status`; mostly empty.
    pub subresource: String,
    /// The namespace; empty for all of them, and for what has none.
    pub namespace: String,
    /// The object; empty for a collection. That of a create is only in its body: see [`Self::named`].
    pub name: String,
}

/// Whether a request for a collection is answered with what becomes of it.
pub fn is_watch(query: &str) -> bool {
    let mut parts = query.split('&');
    parts.any(|part| matches!(part, "watch=true" | "watch=1"))
}

/// Whether a watch is to begin with what is there.
pub fn is_streamed_list(query: &str) -> bool {
    query
        .split('&')
        .any(|part| part == "sendInitialEvents=true")
}

impl Request {
    /// Reads the method and the path of a request.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris>
    pub fn parse(method: &Method, path: &str, query: &str) -> Self {
        let mut parts = path.trim_matches('/').split('/');
        let (group, version) = match parts.next() {
            Some("api") => ("", parts.next()),
            Some("apis") => (parts.next().unwrap_or_default(), parts.next()),
            _ => ("", None),
        };
        let mut parts: Vec<&str> = parts.collect();
        if version.is_none() {
            parts.clear();
        }
        let namespace = match parts.as_slice() {
            ["namespaces", namespace, _, ..] => {
                let namespace = *namespace;
                parts.drain(..2);
                namespace
            }
            _ => "",
        };
        let part = |at: usize| parts.get(at).copied().unwrap_or_default().to_owned();
        let (resource, name, subresource) = (part(0), part(1), part(2));
        let (watches, lists) = (is_watch(query), is_streamed_list(query));
        let collection = !resource.is_empty() && name.is_empty();
        let verb = match *method {
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if collection => Verb::DeleteCollection,
            Method::DELETE => Verb::Delete,
            _ if collection && watches && !lists => Verb::Watch,
            _ if collection => Verb::List,
            _ => Verb::Get,
        };
        Self {
            verb,
            group: if resource.is_empty() {
                String::new()
            } else {
                group.to_owned()
            },
            resource,
            subresource,
            namespace: namespace.to_owned(),
            name,
        }
    }

    /// The same with the name that the body of a create has.
    #[must_use]
    pub fn named(mut self, body: &[u8]) -> Self {
        if self.verb == Verb::Create && self.name.is_empty() {
            let object: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            let name = object["metadata"]["name"].as_str();
            name.unwrap_or_default().clone_into(&mut self.name);
        }
        self
    }

    /// Whether it changes an object that says something about the state that is wanted, or reached: not
    /// Events, which are told in the background, nor the Lease.
    pub fn writes(&self) -> bool {
        self.verb.writes() && !matches!(self.resource.as_str(), "events" | "leases")
    }

    /// The object that it is about, as `resource/name`, and its subresource.
    pub fn object(&self) -> String {
        match self.subresource.as_str() {
            "" => format!("{}/{}", self.resource, self.name),
            sub => format!("{}/{}/{sub}", self.resource, self.name),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb.as_str(), self.object())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &Method, path: &str, query: &str) -> String {
        let Request {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
        } = Request::parse(method, path, query);
        format!(
            "{}|{group}|{resource}|{subresource}|{namespace}|{name}",
            verb.as_str()
        )
    }

    #[test]
    fn requests_are_what_the_api_server_takes_them_for() {
        let told = [
            of(
                &Method::GET,
                "/api/v1/namespaces/a/pods",
                "watch=true&resourceVersion=1",
            ),
            of(
                &Method::GET,
                "/api/v1/pods",
                "watch=true&sendInitialEvents=true",
            ),
            of(&Method::GET, "/api/v1/pods", "limit=500"),
            of(&Method::GET, "/api/v1/namespaces/a", ""),
            of(&Method::GET, "/api/v1/namespaces", ""),
            of(&Method::POST, "/apis/apps/v1/namespaces/a/deployments", ""),
            of(
                &Method::PATCH,
                "/apis/g.io/v1/namespaces/a/things/b/status",
                "fieldManager=x",
            ),
            of(&Method::DELETE, "/apis/g.io/v1/namespaces/a/things/b", ""),
            of(&Method::DELETE, "/apis/g.io/v1/namespaces/a/things", ""),
            of(&Method::PUT, "/apis/g.io/v1/things/b", ""),
            of(&Method::GET, "/apis/g.io/v1", ""),
            of(
                &Method::GET,
                "/apis/g.io/v1/namespaces/a/things/b",
                "watch=true",
            ),
            of(&Method::GET, "/readyz", ""),
        ];
        assert_eq!(
            told,
            [
                "watch||pods||a|",
                "list||pods|||",
                "list||pods|||",
                "get||namespaces|||a",
                "list||namespaces|||",
                "create|apps|deployments||a|",
                "patch|g.io|things|status|a|b",
                "delete|g.io|things||a|b",
                "deletecollection|g.io|things||a|",
                "update|g.io|things|||b",
                "get|||||",
                "get|g.io|things||a|b",
                "get|||||",
            ]
        );
    }

    #[test]
    fn a_create_has_its_name_in_its_body() {
        let create = Request::parse(&Method::POST, "/api/v1/namespaces/a/services", "");
        assert_eq!(
            create
                .clone()
                .named(br#"{"metadata": {"name": "s"}}"#)
                .object(),
            "services/s"
        );
        assert_eq!(create.named(b"not JSON").object(), "services/");
    }
}
