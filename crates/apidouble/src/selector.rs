//! Label and field selectors.

use serde_json::Value;

use crate::{
    kind::Kind,
    object::Fields,
    status::{Answer, Status},
};

/// Which objects of a kind are meant: all of its parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) namespace: Option<String>,
    labels: Vec<Requirement>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Selector {
    /// `labels` and `fields` as in the query of a request.
    pub(crate) fn parse(kind: &Kind, namespace: Option<&str>, labels: &str, fields: &str) -> Answer<Self> {
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            labels: parse_labels(labels)?,
            fields: parse_fields(kind, fields)?,
        })
    }

    /// It leaves nothing out but other namespaces: then the server says how many items remain.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Fields) -> bool {
        let metadata = object.get("metadata");
        let text = |name: &str| metadata?.get(name)?.as_str();
        if self.namespace.is_some() && self.namespace.as_deref() != text("namespace") {
            return false;
        }
        let labels = metadata.and_then(|metadata| metadata.get("labels"));
        let label = |key: &str| labels?.get(key)?.as_str();
        self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                label(key).is_some_and(|value| values.iter().any(|one| one == value))
            }
            Requirement::NotIn(key, values) => {
                label(key).is_none_or(|value| values.iter().all(|one| one != value))
            }
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Absent(key) => label(key).is_none(),
        }) && self.fields.iter().all(|field| (field.of(object) == field.value) == field.equal)
    }
}

impl Field {
    /// What the object has there, as text; empty where it has nothing.
    fn of(&self, object: &Fields) -> String {
        let mut steps = self.path.iter();
        let mut value = steps.next().and_then(|step| object.get(step));
        for step in steps {
            value = value.and_then(|value| value.get(step));
        }
        match value {
            Some(Value::String(text)) => text.clone(),
            // An absent boolean is false, and this is how the server prints it.
            Some(Value::Bool(true)) => "true".to_owned(),
            Some(Value::Null | Value::Bool(false)) | None if self.is_boolean() => "false".to_owned(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }

    fn is_boolean(&self) -> bool {
        self.path.last().is_some_and(|last| last == "unschedulable" || last == "hostNetwork")
    }
}

/// Whether `labels` are what a `LabelSelector` in an object means; one that says nothing means all.
pub(crate) fn matches_labels(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels[key].as_str();
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    equal.into_iter().all(|(key, value)| label(key) == value.as_str())
        && expressions.into_iter().all(|expression| {
            let value = label(expression["key"].as_str().unwrap_or_default());
            let listed =
                expression["values"].as_array().into_iter().flatten().any(|one| one.as_str() == value);
            match expression["operator"].as_str() {
                Some("In") => value.is_some() && listed,
                Some("NotIn") => value.is_none() || !listed,
                Some("Exists") => value.is_some(),
                Some("DoesNotExist") => value.is_none(),
                _ => false,
            }
        })
}

fn parse_fields(kind: &Kind, text: &str) -> Answer<Vec<Field>> {
    let mut fields = Vec::new();
    for term in text.split(',').filter(|term| !term.is_empty()) {
        let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (path, value, true)
        } else {
            return Err(Status::bad_request(format!(
                "invalid selector: {text:?}; can't understand {term:?}"
            )));
        };
        let known = path == "metadata.name"
            || (path == "metadata.namespace" && kind.namespaced)
            || kind.selectable.iter().any(|selectable| selectable == path);
        if !known {
            let message = format!("field label not supported: {path}");
            return Err(Status::bad_request(message));
        }
        let path = path.split('.').map(str::to_owned).collect();
        fields.push(Field { path, value: value.to_owned(), equal });
    }
    Ok(fields)
}

fn parse_labels(text: &str) -> Answer<Vec<Requirement>> {
    split_terms(text).map(|term| parse_label(term.trim()).ok_or_else(|| cannot_parse(text))).collect()
}

fn cannot_parse(text: &str) -> Status {
    Status::bad_request(format!("unable to parse requirement: cannot understand {text:?}"))
}

fn parse_label(term: &str) -> Option<Requirement> {
    if let Some(key) = term.strip_prefix('!') {
        return name(key).map(Requirement::Absent);
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Some(Requirement::NotIn(name(key)?, vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Some(Requirement::In(name(key)?, vec![value.trim().to_owned()]));
    }
    if let Some((head, values)) = term.split_once('(') {
        let values = values.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace)?;
        return match operator {
            "in" => Some(Requirement::In(name(key)?, values)),
            "notin" => Some(Requirement::NotIn(name(key)?, values)),
            _ => None,
        };
    }
    name(term).map(Requirement::Exists)
}

fn name(text: &str) -> Option<String> {
    let text = text.trim();
    let valid = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    (!text.is_empty() && text.chars().all(valid)).then(|| text.to_owned())
}

/// At the commas that are not within parentheses.
fn split_terms(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let split = move |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(split).filter(|term| !term.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(labels: &str, fields: &str) -> bool {
        let pods = crate::kind::builtin().into_iter().find(|kind| kind.plural == "pods").unwrap();
        let object = json!({"metadata": {"name": "a", "namespace": "n", "labels": {"app": "web", "tier": ""}},
            "spec": {"nodeName": "one"}});
        let selector = Selector::parse(&pods, Some("n"), labels, fields).unwrap();
        selector.matches(object.as_object().unwrap())
    }

    #[test]
    fn labels_of_every_form() {
        for yes in
            ["", "app", "app=web", "app == web", "app!=db", "app in (db, web)", "!x", "x!=1", "x notin (1)"]
        {
            assert!(matches(yes, ""), "{yes}");
        }
        for no in
            ["x", "app=db", "app!=web", "app in (db)", "!app", "app notin (web,db)", "app,x", "app=web,!tier"]
        {
            assert!(!matches(no, ""), "{no}");
        }
    }

    #[test]
    fn fields_by_dotted_path() {
        assert!(matches("", "spec.nodeName=one,metadata.name=a"));
        assert!(matches("", "spec.nodeName!=two,status.phase="));
        assert!(matches("", "spec.hostNetwork=false"));
        assert!(!matches("", "spec.nodeName=two"));
        assert!(!matches("", "metadata.namespace=other"));
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let pods = crate::kind::builtin().into_iter().find(|kind| kind.plural == "pods").unwrap();
        for (labels, fields) in
            [("a b c", ""), ("a in 1", ""), ("", "spec.nodeName"), ("", "spec.containers=1")]
        {
            assert!(Selector::parse(&pods, None, labels, fields).is_err(), "{labels:?} {fields:?}");
        }
    }
}
