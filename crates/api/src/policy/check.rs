//! All that is wrong with one policy, wherever it comes from: an API server's request, a file.

use std::{collections::HashSet, net::IpAddr, sync::LazyLock};

use kube::core::{
    CustomResourceExt,
    cel::{CompiledSchema, ValidationErrors, Validator, compile_schema},
};
use serde_json::Value;

use super::{
    BalancingPolicy, LONG_NAME, LocalRedirectPolicy, NAME,
    selector::problems,
    shape::{Found, compare, without_nulls},
};
use crate::{Invalid, Notice, document::read_policy, identity::is_subdomain};

const GROUP: &str = "balancing.elf.io";
const VERSION: &str = "v1beta1";

/// Where a policy has a selector.
const SELECTORS: [&str; 3] = [
    "/spec/config/nodeLabelSelector",
    "/spec/backend/endpointSelector",
    "/spec/backend/serviceEndpoint/endpointSelector",
];

/// What a kind of policy may look like. Its rules are compiled once.
struct Definition {
    kind: &'static str,
    schema: Value,
    rules: CompiledSchema,
}

impl Definition {
    fn of<T: CustomResourceExt>(kind: &'static str) -> Self {
        let version = T::crd().spec.versions.into_iter().next();
        let schema = version.and_then(|it| it.schema).and_then(|it| it.open_api_v3_schema);
        let schema = serde_json::to_value(schema).unwrap_or_default();
        let rules = compile_schema(&schema);
        Self { kind, schema, rules }
    }
}

static DEFINITIONS: LazyLock<[Definition; 2]> = LazyLock::new(|| {
    [
        Definition::of::<LocalRedirectPolicy>("LocalRedirectPolicy"),
        Definition::of::<BalancingPolicy>("BalancingPolicy"),
    ]
});

/// Is it a policy, of whatever version?
pub fn is_policy(document: &Value) -> bool {
    definition(document).is_some()
}

/// All that is wrong with a policy by itself, as an API server would say it that has the definitions ([`super::crds`]), and a few
/// things that only code can say. Empty: it is right, or no policy.
pub fn check(document: &Value) -> Vec<Invalid> {
    let Some(definition) = definition(document) else { return Vec::new() };
    let version = text(document, "/apiVersion").unwrap_or_default();
    if version != format!("{GROUP}/{VERSION}") {
        let problem = format!("{version:?} is not read; use {GROUP}/{VERSION}");
        return vec![invalid(document, "apiVersion".into(), problem)];
    }
    let name = text(document, "/metadata/name").unwrap_or_default();
    if !is_subdomain(name) {
        let problem = "must be a name of lower case letters, digits, '-' and '.', that begins and ends with a letter or digit";
        return vec![invalid(document, "metadata.name".into(), problem.into())];
    }
    if name.len() > NAME {
        return vec![invalid(document, "metadata.name".into(), LONG_NAME.into())];
    }
    let found = shape(definition, document);
    // Rules are about values of the right form.
    let wrong =
        if found.wrong.is_empty() { broken(definition, without_nulls(document)) } else { found.wrong };
    wrong.into_iter().map(|(field, problem)| invalid(document, field, problem)).collect()
}

/// Fields of a policy that nobody knows: API servers drop them, and most are typing errors.
pub fn unknown_fields(document: &Value) -> Vec<Notice> {
    let unknown = definition(document).map(|it| shape(it, document).unknown).unwrap_or_default();
    let reason = "is no known field, and has no effect; is it written right?";
    let notice = |field| Notice::Skipped { object: called(document), field, reason: reason.into() };
    unknown.into_iter().map(notice).collect()
}

fn definition(document: &Value) -> Option<&'static Definition> {
    let (group, _) = text(document, "/apiVersion")?.split_once('/')?;
    let kind = text(document, "/kind")?;
    DEFINITIONS.iter().find(|it| group == GROUP && it.kind == kind)
}

/// Of the spec: metadata is the same for all kinds, and status is nobody's to give.
fn shape(definition: &Definition, document: &Value) -> Found {
    let mut found = Found::default();
    match document.get("spec").filter(|it| !it.is_null()) {
        Some(spec) => compare(&definition.schema["properties"]["spec"], spec, "spec", &mut found),
        None => found.wrong.push(("spec".into(), "is missing".into())),
    }
    found
}

type Wrong = Vec<(String, String)>;

fn broken(definition: &Definition, document: Value) -> Wrong {
    let outcome = Validator::new().validate_compiled(&definition.rules, &document, None);
    let errors = outcome.err().map(ValidationErrors::into_vec).unwrap_or_default();
    let mut wrong: Wrong = errors.into_iter().map(|it| (it.field_path, it.message)).collect();
    if wrong.is_empty() {
        wrong.extend(labels(&document));
        wrong.extend(ports(&document));
        wrong.extend(addresses(&document));
    }
    if wrong.is_empty() {
        // What is let in must be what agents can read.
        wrong.extend(read_policy(document).err().map(|it| (it.field, it.problem)));
    }
    wrong
}

/// What no label can be selects nothing, ever.
fn labels(document: &Value) -> Wrong {
    let wrong = SELECTORS.into_iter().flat_map(|path| {
        let found = document.pointer(path).map(problems).unwrap_or_default();
        found.into_iter().map(move |(field, problem)| (format!("{}{field}", dotted(path)), problem))
    });
    wrong.collect()
}

/// 080 is 80.
fn ports(document: &Value) -> Wrong {
    let mut wrong = Wrong::new();
    for path in ["/spec/frontend/addressMatcher/toPorts", "/spec/frontend/serviceMatcher/toPorts"] {
        let mut seen = HashSet::new();
        for (index, port) in items(document, path).enumerate() {
            let number = port["port"].as_str().and_then(|text| text.parse::<u16>().ok());
            if !seen.insert((port["protocol"].as_str(), number)) {
                wrong.push((format!("{}[{index}]", dotted(path)), "each port and protocol once".into()));
            }
        }
    }
    wrong
}

/// An address may be written in several ways.
fn addresses(document: &Value) -> Wrong {
    let mut wrong = Wrong::new();
    let mut seen = HashSet::new();
    let path = "/spec/backend/addressEndpoint/addresses";
    for (index, text) in items(document, path).enumerate() {
        if !seen.insert(text.as_str().and_then(|text| text.parse::<IpAddr>().ok())) {
            wrong.push((format!("{}[{index}]", dotted(path)), "each address once".to_owned()));
        }
    }
    wrong
}

fn items<'a>(document: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    document.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn dotted(path: &str) -> String {
    path.trim_start_matches('/').replace('/', ".")
}

pub(super) fn text<'a>(document: &'a Value, path: &str) -> Option<&'a str> {
    document.pointer(path)?.as_str()
}

/// `LocalRedirectPolicy dns`.
pub(super) fn called(document: &Value) -> String {
    let name = text(document, "/metadata/name").unwrap_or_default();
    format!("{} {name}", text(document, "/kind").unwrap_or_default()).trim_end().to_owned()
}

pub(super) fn invalid(document: &Value, field: String, problem: String) -> Invalid {
    Invalid { object: called(document), field, problem }
}

#[cfg(test)]
mod tests;
