//! The server that is checked.

use std::{path::Path, pin::Pin, time::Duration};

use apidouble::{Access, Cluster, Login, Real, Server, User};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::{Method, Request};
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// May do everything.
pub(crate) const ADMINISTRATOR: &str = "administrator-token";
/// May do what roles allow the user `limited`.
pub(crate) const LIMITED: &str = "limited-token";

pub(crate) struct Target {
    client: Client,
    place: Place,
}

enum Place {
    Double(Server),
    Real(Real),
}

/// A status code and an object.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl Answer {
    /// The object, of an answer that is a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.code), "{self:?}");
        self.body
    }

    /// Code and reason of a refusal.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        assert_eq!(self.body["kind"], "Status", "{self:?}");
        (self.code, self.body["reason"].as_str().unwrap_or_default())
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Target {
    pub(crate) fn double() -> Self {
        let cluster = Cluster::new();
        let server = Server::tls(&cluster).unwrap();
        cluster.accounts().allow_token(ADMINISTRATOR, User::administrator());
        cluster.accounts().allow_token(LIMITED, User::new("limited"));
        server.set_access(Access::Rbac);
        let place = Place::Double(server);
        Self { client: client(&place, ADMINISTRATOR), place }
    }

    pub(crate) fn real(assets: &Path) -> Self {
        let users = [(ADMINISTRATOR, User::administrator()), (LIMITED, User::new("limited"))];
        let place = Place::Real(Real::start(assets, &users).unwrap_or_else(|error| panic!("{error:#}")));
        Self { client: client(&place, ADMINISTRATOR), place }
    }

    pub(crate) async fn version(&self) -> String {
        self.get("/version").await.ok()["gitVersion"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The same server as somebody else sees it.
    pub(crate) fn as_user(&self, token: &str) -> Client {
        client(&self.place, token)
    }

    /// A namespace of its own for a check.
    pub(crate) async fn namespace(&self, name: &str) -> String {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.post("/api/v1/namespaces", object).await.ok();
        name.to_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "", None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, "application/json", Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, "application/json", Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, "", None).await
    }

    pub(crate) async fn merge(&self, path: &str, patch: Value) -> Answer {
        self.call(Method::PATCH, path, "application/merge-patch+json", Some(patch)).await
    }

    pub(crate) async fn apply(&self, path: &str, manager: &str, object: Value) -> Answer {
        let path = format!("{path}?fieldManager={manager}");
        self.call(Method::PATCH, &path, "application/apply-patch+yaml", Some(object)).await
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        content: &str,
        body: Option<Value>,
    ) -> Answer {
        self.call_for(method, path, content, "application/json", body).await
    }

    pub(crate) async fn call_for(
        &self,
        method: Method,
        path: &str,
        content: &str,
        accept: &str,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("accept", accept);
        if body.is_some() {
            request = request.header("content-type", content);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string().into_bytes()));
        let answer = timeout(PATIENCE, self.client.send(request.body(body).unwrap())).await;
        let answer = answer.expect("no answer in time").expect("no answer");
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { code, body }
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, path: &str) -> Events {
        self.watch_for(path, "application/json").await
    }

    pub(crate) async fn watch_for(&self, path: &str, accept: &str) -> Events {
        let request = Request::get(path).header("accept", accept).body(Body::empty()).unwrap();
        let answer = timeout(PATIENCE, self.client.send(request)).await.unwrap().unwrap();
        let code = answer.status().as_u16();
        let data =
            answer.into_body().into_data_stream().map(|piece| piece.map_err(|error| error.to_string()));
        Events { code, data: Box::pin(data), rest: Vec::new() }
    }

    pub(crate) async fn eventually(&self, what: &str, mut is_so: impl AsyncFnMut(&Self) -> bool) {
        let end = tokio::time::Instant::now() + 2 * PATIENCE;
        while !is_so(self).await {
            assert!(tokio::time::Instant::now() < end, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn client(place: &Place, token: &str) -> Client {
    let text = match place {
        Place::Double(server) => server.kubeconfig(&Login::Token(token.to_owned())).unwrap(),
        Place::Real(real) => real.kubeconfig(token),
    };
    let config = Kubeconfig::from_yaml(&text).unwrap();
    // Only files and helper programs make this wait, and there are none.
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(config, &options);
    let mut config = futures_util::FutureExt::now_or_never(config).unwrap().unwrap();
    // What the server answers is checked, not what kube makes of it by asking again.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// The events of a watch, or the refusal that came instead.
pub(crate) struct Events {
    pub(crate) code: u16,
    data: Pin<Box<dyn Stream<Item = Result<Bytes, String>>>>,
    rest: Vec<u8>,
}

impl Events {
    /// The next one; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let piece = timeout(PATIENCE, self.data.next()).await.expect("no event in time")?;
            self.rest.extend_from_slice(&piece.expect("the watch broke off"));
        }
    }

    /// The next one, in short: its type and the object's name.
    pub(crate) async fn short(&mut self) -> String {
        let event = self.next().await.expect("the watch has ended");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-");
        format!("{} {name}", event["type"].as_str().unwrap())
    }

    /// All up to the end.
    pub(crate) async fn all(mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// The resource version of an object or list.
#[track_caller]
pub(crate) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// A ConfigMap: what has no defaults and hardly any rules.
pub(crate) fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}
