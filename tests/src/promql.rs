//! What a query of Prometheus names: enough of the language to find metrics and their labels in ours.

use std::collections::BTreeSet;

/// What one query names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Metrics.
    pub metrics: BTreeSet<String>,
    /// Labels that it selects or groups by, of whichever metric.
    pub labels: BTreeSet<String>,
}

/// Words before a list of labels.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words that are no metrics.
const WORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "inf"];

/// Finds them.
pub fn named(query: &str) -> Named {
    let mut named = Named::default();
    let mut rest = query;
    while let Some(character) = rest.chars().next() {
        if is_first(character) {
            let (word, after) = rest.split_at(rest.find(|it| !is_part(it)).unwrap_or(rest.len()));
            rest = after;
            let next = after.trim_start();
            if LISTS.contains(&word) {
                let list = next.strip_prefix('(').and_then(|list| list.split_once(')'));
                let Some((labels, after)) = list else { continue };
                let labels = labels.split(',').map(str::trim).filter(|label| !label.is_empty());
                named.labels.extend(labels.map(str::to_owned));
                rest = after;
            } else if !WORDS.contains(&word) && !next.starts_with('(') && !is_aggregated(next) {
                named.metrics.insert(word.to_owned());
            }
        } else if let Some(selector) = rest.strip_prefix('{') {
            let (labels, after) = selector.split_once('}').unwrap_or((selector, ""));
            // No value of ours has a comma.
            let labels = labels.split(',').filter_map(|matcher| matcher.split_once(['=', '!']));
            named.labels.extend(labels.map(|(label, _)| label.trim().to_owned()));
            rest = after;
        } else if let Some(range) = rest.strip_prefix('[') {
            rest = range.split_once(']').map_or("", |(_, after)| after);
        } else if character.is_ascii_digit() {
            // With its unit, as in 5m or 1e9.
            rest = rest.trim_start_matches(|it: char| it.is_ascii_alphanumeric() || it == '.');
        } else if let Some(text) = rest.strip_prefix('"') {
            rest = text.split_once('"').map_or("", |(_, after)| after);
        } else {
            rest = &rest[character.len_utf8()..];
        }
    }
    named
}

/// `sum by (x) (…)`: what stands before is no metric.
fn is_aggregated(next: &str) -> bool {
    ["by", "without"]
        .iter()
        .any(|word| next.strip_prefix(word).is_some_and(|it| it.trim_start().starts_with('(')))
}

fn is_first(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_' || character == ':'
}

fn is_part(character: char) -> bool {
    is_first(character) || character.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_and_labels_are_found_and_nothing_else() {
        for (query, metrics, labels) in [
            ("up == 0", &["up"][..], &[][..]),
            (
                "sum by (a, b) (rate(x_total{c=~\"y|z\", d!=\"e f\"}[5m])) > 0.05 * 1e3",
                &["x_total"],
                &["a", "b", "c", "d"],
            ),
            ("a / ignoring (x) group_left () b or on(y) c and d", &["a", "b", "c", "d"], &["x", "y"]),
            (
                "histogram_quantile(0.99, sum(rate(h_bucket[$__rate_interval])) by (le))",
                &["h_bucket"],
                &["le"],
            ),
            (
                "topk(8, max by (m) (e{i=~\"$instance\"} / (l > 0))) and time() - t < 14 * 86400",
                &["e", "l", "t"],
                &["i", "m"],
            ),
            ("sum(1 - h{path=\"/healthz\"})", &["h"], &["path"]),
        ] {
            let named = named(query);
            assert_eq!(named.metrics, metrics.iter().map(ToString::to_string).collect(), "{query}");
            assert_eq!(named.labels, labels.iter().map(ToString::to_string).collect(), "{query}");
        }
    }
}
