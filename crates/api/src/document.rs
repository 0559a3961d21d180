//! Any document: which kind it is, and what is in it if it is a list.

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery, networking::v1 as networking};
use model::{Kind, Object};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Track;

use crate::{
    Invalid, Notice, from_cidr, from_namespace, from_node, from_pod, from_service, from_slice, items,
    policy::{check, from_balancing_policy, from_local_redirect_policy},
    sent,
};

/// What is in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// The objects, in their order.
    pub objects: Vec<Object>,
    /// What is in it without having an effect.
    pub notices: Vec<Notice>,
}

/// Reads one document: an object, or a list of objects (`kind: List`, `ServiceList`, ...). Kinds that
/// Balancing does not read are no error, since it is pointed at directories full of other things.
///
/// # Errors
///
/// [`Invalid`] for the first thing that is wrong; nothing of the document counts then.
pub fn convert(document: Value) -> Result<Converted, Invalid> {
    let mut converted = Converted::default();
    items(document).into_iter().try_for_each(|item| add(item, &mut converted))?;
    Ok(converted)
}

fn add(document: Value, converted: &mut Converted) -> Result<(), Invalid> {
    let Value::Object(map) = document else {
        return Err(unnamed("apiVersion", "is missing; a document must be a Kubernetes object"));
    };
    let api_version = required(&map, "apiVersion")?;
    let kind = required(&map, "kind")?;
    add_object(map, &api_version, &kind, converted)
}

fn add_object(
    map: Map<String, Value>,
    api_version: &str,
    kind: &str,
    converted: &mut Converted,
) -> Result<(), Invalid> {
    let Some((kind, right_version)) = known(api_version, kind) else {
        let (name, kind) = (name_in(&map), kind.to_owned());
        let api_version = api_version.to_owned();
        converted.notices.push(Notice::IgnoredKind { api_version, kind, name });
        return Ok(());
    };
    if api_version != right_version {
        return Err(Invalid {
            object: called(kind, &map),
            field: "apiVersion".into(),
            problem: format!("{api_version:?} is not read; use {right_version}"),
        });
    }
    if matches!(kind, Kind::LocalRedirectPolicy | Kind::BalancingPolicy) {
        // There may be no API server that has done so.
        let wrong = check(&Value::Object(map.clone()));
        if let Some(first) = wrong.into_iter().next() {
            return Err(first);
        }
    }
    let object = read(Document { kind, map }, &mut converted.notices)?;
    converted.objects.extend(object);
    Ok(())
}

/// Whether agents can read a policy, whatever else is wrong with it.
///
/// # Errors
///
/// [`Invalid`] if they can't.
pub(crate) fn read_policy(document: Value) -> Result<(), Invalid> {
    let Value::Object(map) = document else { return Ok(()) };
    let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default();
    let Some((kind, _)) = known(text("apiVersion"), text("kind")) else { return Ok(()) };
    read(Document { kind, map }, &mut Vec::new()).map(drop)
}

/// Reads an object as an API server sends it; `None` for what has no effect by its nature. Fields that nobody knows are not
/// told of: the server has let them pass, and may be newer than this.
///
/// # Errors
///
/// [`Invalid`] for the first thing that is wrong.
pub fn from_json(kind: Kind, text: &str, notices: &mut Vec<Notice>) -> Result<Option<Object>, Invalid> {
    let json = Json { kind, text };
    Ok(match kind {
        Kind::Service => Some(from_service(&json.read::<sent::Service>()?.into(), notices)?.into()),
        Kind::EndpointSlice => {
            from_slice(&json.read::<sent::EndpointSlice>()?.into(), notices)?.map(Object::from)
        }
        Kind::Node => Some(from_node(&json.read::<sent::Node>()?.into())?.into()),
        Kind::Pod => Some(from_pod(&json.read()?, notices)?.into()),
        Kind::Namespace => {
            from_namespace(&json.read::<sent::Namespace>()?.into(), notices)?.map(Object::from)
        }
        Kind::ServiceCidr => Some(from_cidr(&json.read()?)?.into()),
        Kind::LocalRedirectPolicy => Some(from_local_redirect_policy(&json.read()?)?.into()),
        Kind::BalancingPolicy => Some(from_balancing_policy(&json.read()?)?.into()),
    })
}

fn read(document: Document, notices: &mut Vec<Notice>) -> Result<Option<Object>, Invalid> {
    Ok(match document.kind {
        Kind::Service => {
            let service: core::Service = document.typed(notices)?;
            Some(from_service(&service, notices)?.into())
        }
        Kind::EndpointSlice => {
            let slice: discovery::EndpointSlice = document.typed(notices)?;
            from_slice(&slice, notices)?.map(Object::from)
        }
        Kind::Node => Some(from_node(&document.typed(notices)?)?.into()),
        Kind::Pod => Some(from_pod(&document.typed(notices)?, notices)?.into()),
        Kind::Namespace => from_namespace(&document.typed(notices)?, notices)?.map(Object::from),
        Kind::ServiceCidr => Some(from_cidr(&document.typed::<networking::ServiceCIDR>(notices)?)?.into()),
        Kind::LocalRedirectPolicy => {
            Some(from_local_redirect_policy(&document.without_type().typed(notices)?)?.into())
        }
        Kind::BalancingPolicy => {
            Some(from_balancing_policy(&document.without_type().typed(notices)?)?.into())
        }
    })
}

struct Json<'a> {
    kind: Kind,
    text: &'a str,
}

impl Json<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Invalid> {
        serde_json::from_str(self.text).or_else(|_| self.read_with_path())
    }

    /// The same, knowing where it is: that takes twice as long, so only where something is wrong.
    fn read_with_path<T: DeserializeOwned>(&self) -> Result<T, Invalid> {
        let mut deserializer = serde_json::Deserializer::from_str(self.text);
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let map = serde_json::from_str(self.text).unwrap_or_default();
            let (field, problem) = (error.path().to_string(), error.inner().to_string());
            Invalid { object: called(self.kind, &map), field, problem }
        })
    }
}

struct Document {
    kind: Kind,
    map: Map<String, Value>,
}

/// Our kind, and the version of its group that is read. `None` for other kinds, and for those of the same
/// name in other groups (there are other Services in the world).
fn known(api_version: &str, kind: &str) -> Option<(Kind, &'static str)> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, kind) {
        ("", "Service") => Some((Kind::Service, "v1")),
        ("", "Node") => Some((Kind::Node, "v1")),
        ("", "Pod") => Some((Kind::Pod, "v1")),
        ("", "Namespace") => Some((Kind::Namespace, "v1")),
        ("discovery.k8s.io", "EndpointSlice") => Some((Kind::EndpointSlice, "discovery.k8s.io/v1")),
        ("networking.k8s.io", "ServiceCIDR") => Some((Kind::ServiceCidr, "networking.k8s.io/v1")),
        ("balancing.elf.io", "LocalRedirectPolicy") => {
            Some((Kind::LocalRedirectPolicy, "balancing.elf.io/v1beta1"))
        }
        ("balancing.elf.io", "BalancingPolicy") => Some((Kind::BalancingPolicy, "balancing.elf.io/v1beta1")),
        _ => None,
    }
}

impl Document {
    /// Types that kube derives do not read what they are called.
    fn without_type(mut self) -> Self {
        self.map.remove("apiVersion");
        self.map.remove("kind");
        self
    }

    /// Fields that nobody knows are no error, as they are none for the API server: there will be newer ones than this. But
    /// they are told of, for most are typing errors.
    fn typed<T: DeserializeOwned>(self, notices: &mut Vec<Notice>) -> Result<T, Invalid> {
        let object = called(self.kind, &self.map);
        let mut track = Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(Value::Object(self.map), &mut track);
        let read = serde_ignored::deserialize(deserializer, |path| {
            notices.push(Notice::Skipped {
                object: object.clone(),
                field: field(&path),
                reason: "is no known field, and has no effect; is it written right?".into(),
            });
        });
        read.map_err(|error: serde_json::Error| Invalid {
            object: object.clone(),
            field: track.path().to_string(),
            problem: error.to_string(),
        })
    }
}

/// A path as errors have it: `spec.ports[0].port`.
fn field(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field(parent)),
        Path::Map { parent, key } => match field(parent) {
            above if above.is_empty() => key.clone(),
            above => format!("{above}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            field(parent)
        }
    }
}

fn required(map: &Map<String, Value>, key: &str) -> Result<String, Invalid> {
    match map.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::Null) | None => Err(unnamed(key, "is missing; a document must be a Kubernetes object")),
        Some(_) => Err(unnamed(key, "must be a text that is not empty")),
    }
}

fn unnamed(field: &str, problem: &str) -> Invalid {
    Invalid { object: "document".into(), field: field.into(), problem: problem.into() }
}

/// An object that may not be valid otherwise, nor have a name.
fn called(kind: Kind, map: &Map<String, Value>) -> String {
    format!("{kind} {}", name_in(map)).trim_end().to_owned()
}

/// Namespace and name of an object that may not be valid otherwise.
fn name_in(map: &Map<String, Value>) -> String {
    let text = |key: &str| map.get("metadata").and_then(|metadata| metadata.get(key)?.as_str());
    match (text("namespace"), text("name").unwrap_or_default()) {
        (Some(namespace), name) => format!("{namespace}/{name}"),
        (None, name) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
