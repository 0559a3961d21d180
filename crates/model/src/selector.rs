//! Label selectors, as `metav1.LabelSelector` has them.

use std::collections::{BTreeMap, BTreeSet};

/// Which objects, by their labels. Without any requirement: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must have this value.
    pub labels: BTreeMap<String, String>,
    /// What else must be true.
    pub expressions: Vec<Expression>,
}

/// One of `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// The label's key.
    pub key: String,
    /// What must be true of it.
    pub operator: Operator,
}

/// What must be true of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// It is there and has one of these values.
    In(BTreeSet<String>),
    /// It is not there, or has none of these values.
    NotIn(BTreeSet<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Selector {
    /// Whether it picks what has these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|it| it.matches(labels))
    }
}

impl Expression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::map;

    fn expression(key: &str, operator: Operator) -> Selector {
        let expressions = vec![Expression { key: key.into(), operator }];
        Selector { expressions, ..Selector::default() }
    }

    fn values(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn a_selector_picks_what_all_of_its_requirements_are_true_of() {
        let labels = map(&[("app", "web"), ("tier", "front")]);
        let by = |pairs: &[(&str, &str)]| Selector { labels: map(pairs), ..Selector::default() };
        let table = [
            (Selector::default(), true),
            (by(&[("app", "web")]), true),
            (by(&[("app", "web"), ("tier", "front")]), true),
            (by(&[("app", "web"), ("tier", "back")]), false),
            (by(&[("stage", "web")]), false),
            (expression("app", Operator::In(values(&["api", "web"]))), true),
            (expression("app", Operator::In(values(&["api"]))), false),
            (expression("stage", Operator::In(values(&["web"]))), false),
            (expression("app", Operator::NotIn(values(&["api"]))), true),
            (expression("app", Operator::NotIn(values(&["web"]))), false),
            (expression("stage", Operator::NotIn(values(&["web"]))), true),
            (expression("app", Operator::Exists), true),
            (expression("stage", Operator::Exists), false),
            (expression("app", Operator::DoesNotExist), false),
            (expression("stage", Operator::DoesNotExist), true),
            (Selector { labels: map(&[("app", "api")]), ..expression("app", Operator::Exists) }, false),
            (Selector { labels: map(&[("app", "web")]), ..expression("stage", Operator::Exists) }, false),
        ];
        for (selector, picks) in table {
            assert_eq!(selector.matches(&labels), picks, "{selector:?}");
        }
    }
}
