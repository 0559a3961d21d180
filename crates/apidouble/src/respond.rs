//! From a request to its answer: who asks, what goes wrong, what is asked for.

use std::{convert::Infallible, sync::Arc, time::Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, http::request::Parts};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    auth::{Access, Act, User, authorize, is_self_review, self_review},
    body::{Body, damaged, events, whole},
    connection::Connection,
    control::OpenWatch,
    discovery,
    fault::Fault,
    kind::Kind,
    list::{ListOptions, write_object},
    object::{Object, key},
    patch,
    record::{self, Resource},
    request::{Form, Place, Query, Verb},
    server::Shared,
    status::{Answer, Status},
    verb::{Writer, Written},
    watch::{View, Watch, WatchOptions},
};

/// Larger bodies are refused, as by a real server.
const LARGEST: usize = 3 * 1024 * 1024;

/// Answers one request.
pub(crate) async fn respond(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let query = Query::of(&parts.uri);
    let place = Place::parse(parts.uri.path());
    let verb = place.as_ref().and_then(|place| place.verb(&parts.method, &query));
    let about = verb.zip(place.as_ref());
    let access = *shared.access.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let who = shared.cluster.accounts().user(&parts.headers, connection.certificate.as_deref(), access);

    let is_fit = |fault: &Fault| !matches!(fault, Fault::NoStreams) || query.flag("sendInitialEvents");
    let fault = shared.faults.meet(about).filter(is_fit);
    let record = |status: u16| {
        let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        shared.record.push(record::Request {
            at: Instant::now(),
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            user: who.as_ref().map_or_else(|_| "nobody".to_owned(), |user| user.name.clone()),
            agent: agent.unwrap_or_default().to_owned(),
            resource: about.map(|(verb, place)| resource(verb, place)),
            status,
        });
    };
    match &fault {
        Some(Fault::Late(time)) => sleep(*time).await,
        Some(Fault::Silent) => {
            record(0);
            std::future::pending::<()>().await;
        }
        Some(Fault::Reset) => {
            record(0);
            connection.reset.notify_one();
            std::future::pending::<()>().await;
        }
        _ => {}
    }
    let answer = async {
        let user = who.clone()?;
        if access == Access::Rbac {
            let method = parts.method.as_str().to_lowercase();
            let named = place.clone().map(|place| place.named_by(&query));
            let act = match verb.zip(named.as_ref()) {
                Some((verb, place)) => Act::Resource(verb, place),
                None => Act::Path(&method, parts.uri.path()),
            };
            authorize(&shared.cluster.store(), &user, &act)?;
        }
        match (fault.as_ref().and_then(Fault::status), verb) {
            // A watch is told by an event that it began too late.
            (Some(status), Some(Verb::Watch)) if status.code == StatusCode::GONE => {
                let event = json!({"type": "ERROR", "object": status.to_value()});
                Ok(answered(StatusCode::OK, whole(format!("{event}\n"))))
            }
            (Some(status), _) => Err(status),
            (None, _) => {
                let asked = Asked { shared: &shared, parts: &parts, query: &query, user: &user, access };
                match (&place, verb) {
                    (Some(place), Some(verb)) => asked.resource(place, verb, body).await,
                    (Some(_), None) => Err(Status::method_not_allowed()),
                    (None, _) => asked.path(),
                }
            }
        }
    };
    let response = answer.await.unwrap_or_else(|status| refused(&status));
    record(response.status().as_u16());
    Ok(match &fault {
        Some(fault) => response.map(|body| damaged(body, fault)),
        None => response,
    })
}

fn resource(verb: Verb, place: &Place) -> Resource {
    Resource {
        verb,
        group: place.group.clone(),
        version: place.version.clone(),
        resource: place.plural.clone(),
        subresource: place.subresource.clone(),
        namespace: place.namespace.clone(),
        name: place.name.clone(),
    }
}

fn answered(code: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn refused(status: &Status) -> Response<Body> {
    let mut response = answered(status.code, whole(status.to_value().to_string()));
    if let Some(seconds) = status.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn document(code: StatusCode, value: &Value) -> Response<Body> {
    answered(code, whole(value.to_string()))
}

/// A request by somebody who may make it.
struct Asked<'a> {
    shared: &'a Shared,
    parts: &'a Parts,
    query: &'a Query,
    user: &'a User,
    access: Access,
}

impl Asked<'_> {
    fn header(&self, name: header::HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Discovery and health.
    fn path(&self) -> Answer<Response<Body>> {
        let path = self.parts.uri.path();
        if self.parts.method != Method::GET {
            return Err(Status::no_page());
        }
        if ["/healthz", "/livez", "/readyz"].iter().any(|health| path.starts_with(health)) {
            let mut response = answered(StatusCode::OK, whole("ok"));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
            return Ok(response);
        }
        let accept = self.header(header::ACCEPT);
        let found =
            discovery::document(&self.shared.cluster.store(), path, accept).ok_or_else(Status::no_page)?;
        let mut response = document(StatusCode::OK, &found);
        if found["kind"] == "APIGroupDiscoveryList" {
            let content = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content));
        }
        Ok(response)
    }

    async fn resource(&self, place: &Place, verb: Verb, body: Incoming) -> Answer<Response<Body>> {
        let cluster = &self.shared.cluster;
        if verb == Verb::Create && is_self_review(place) {
            let review = self.json(body).await?;
            let review = self_review(&cluster.store(), self.user, self.access, review)?;
            return Ok(document(StatusCode::CREATED, &review));
        }
        let kind = place.kind(&cluster.store())?;
        let form = Form::of(&self.parts.headers);
        let writer = || Writer {
            cluster,
            kind: kind.clone(),
            place,
            query: self.query,
            agent: self.header(header::USER_AGENT),
            user: self.user,
        };
        let name = place.name.as_deref().unwrap_or_default();
        let written = match verb {
            Verb::Get => {
                let object = cluster.store().get(&kind, &key(place.namespace.as_deref(), name));
                let object = object.ok_or_else(|| Status::not_found(&kind.plural, &kind.group, name))?;
                Written::Object(StatusCode::OK, object)
            }
            Verb::List => return self.list(place, &kind, form),
            Verb::Watch => return self.watch(place, kind, form),
            Verb::Create => writer().create(self.json(body).await?).await?,
            Verb::Update => writer().update(name, self.json(body).await?).await?,
            Verb::Patch => {
                let form = patch::Form::of(self.header(header::CONTENT_TYPE), &kind)?;
                writer().patch(name, form, self.json(body).await?).await?
            }
            Verb::Delete => {
                let options = self.json(body).await?;
                writer().delete(name, &options).await?
            }
            Verb::DeleteCollection => {
                let options = self.json(body).await?;
                let selector = self.query.selector(&kind, place)?;
                let items = writer().delete_all(&selector, &options).await?;
                let items: Vec<Value> =
                    items.iter().map(|object| Value::Object(object.fields.clone())).collect();
                let list = json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version_of(&place.version),
                    "metadata": {"resourceVersion": cluster.revision().to_string()}, "items": items});
                Written::Other(list)
            }
        };
        Ok(match written {
            Written::Object(code, object) => self.object(place, &kind, form, code, &object),
            Written::Other(value) => document(StatusCode::OK, &value),
        })
    }

    fn object(
        &self,
        place: &Place,
        kind: &Kind,
        form: Form,
        code: StatusCode,
        object: &Object,
    ) -> Response<Body> {
        let mut json = Vec::with_capacity(object.json.len() + 64);
        write_object(&mut json, kind, &place.version, object, form);
        json.push(b'\n');
        answered(code, whole(json))
    }

    fn list(&self, place: &Place, kind: &Kind, form: Form) -> Answer<Response<Body>> {
        let options = ListOptions::parse(self.query)?;
        let selector = self.query.selector(kind, place)?;
        let json = options.answer(&self.shared.cluster.store(), kind, &place.version, &selector, form)?;
        Ok(answered(StatusCode::OK, whole(json)))
    }

    fn watch(&self, place: &Place, kind: Arc<Kind>, form: Form) -> Answer<Response<Body>> {
        let options = WatchOptions::parse(self.query)?;
        let selector = self.query.selector(&kind, place)?;
        let view = View { kind, version: place.version.clone(), selector, form };
        let open = OpenWatch::new(&self.shared.control);
        Ok(answered(StatusCode::OK, events(Watch::open(&self.shared.cluster, view, &options, open)?)))
    }

    /// The body of a request; nothing is null.
    async fn json(&self, body: Incoming) -> Answer<Value> {
        let body = http_body_util::Limited::new(body, LARGEST).collect().await;
        let bytes: Bytes = match body {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                let message = "Request entity too large: limit is 3145728";
                return Err(Status::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message));
            }
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            Status::bad_request(format!("the body is no JSON (YAML is not understood here): {error}"))
        })
    }
}
