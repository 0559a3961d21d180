//! Which pods, which nodes.

use kube::core::Rule;
use serde_json::Value;

use crate::identity::is_subdomain;

/// A selector that means something: API servers let any operator pass in custom resources.
pub(super) fn valid() -> Rule {
    Rule::new(
        "!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] \
         ? has(e.values) && size(e.values) > 0 \
         : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",
    )
    .message("operators are In and NotIn, with values, and Exists and DoesNotExist, without")
}

/// What can't be a label in a selector, each with where in it.
pub(super) fn problems(selector: &Value) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for (name, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        wrong.extend(key_problem(name).map(|it| (".matchLabels".to_owned(), it)));
        let value = value.as_str().unwrap_or_default();
        wrong.extend(value_problem(value).map(|it| (format!(".matchLabels.{name}"), it)));
    }
    for (index, it) in selector["matchExpressions"].as_array().into_iter().flatten().enumerate() {
        let at = format!(".matchExpressions[{index}]");
        let key = it["key"].as_str().unwrap_or_default();
        wrong.extend(key_problem(key).map(|it| (format!("{at}.key"), it)));
        let values = it["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
        wrong.extend(values.filter_map(value_problem).map(|it| (format!("{at}.values"), it)));
    }
    wrong
}

/// A qualified name (kubernetes 1.36 staging/src/k8s.io/apimachinery/pkg/api/validate/content/kube.go `IsLabelKey`).
fn key_problem(key: &str) -> Option<String> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_right = is_word(name) && prefix.is_none_or(is_subdomain);
    (!is_right).then(|| {
        format!(
            "{key:?} can't be the name of a label: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both \
             ends, perhaps after a domain and '/'"
        )
    })
}

/// The same file's `IsLabelValue`.
fn value_problem(value: &str) -> Option<String> {
    let is_right = value.is_empty() || is_word(value);
    (!is_right).then(|| {
        format!(
            "{value:?} can't be the value of a label: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at \
             both ends"
        )
    })
}

fn is_word(text: &str) -> bool {
    let is_end = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    text.len() <= 63
        && text.bytes().all(is_inner)
        && is_end(text.bytes().next())
        && is_end(text.bytes().next_back())
}
