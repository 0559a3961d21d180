//! Metrics in the OpenMetrics text format, and tables of documentation that say what they are.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

/// One metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metric {
    /// `counter`, `gauge`, `histogram`, `info`.
    pub kind: String,
    /// Names of its labels; `le` of histograms is left out.
    pub labels: BTreeSet<String>,
}

/// All of a text by the names that queries have: with `_total` and `_info`.
pub type Metrics = BTreeMap<String, Metric>;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// All samples of a text.
///
/// # Errors
/// A line is none.
pub fn samples(text: &str) -> Result<Vec<Sample>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| sample(line).with_context(|| format!("no sample: {line}"))).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_prefix('{').unwrap_or(rest);
    while !rest.starts_with(['}', ' ']) {
        let (label, after) = rest.trim_start_matches(',').split_once("=\"")?;
        // No name of ours has a quote or a backslash.
        let (value, after) = after.split_once('"')?;
        labels.insert(label.to_owned(), value.to_owned());
        rest = after;
    }
    let value = rest.trim_start_matches('}').split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// What there is in a text, also what has no sample. Each metric is there once.
///
/// # Errors
/// It is no such text.
pub fn metrics(text: &str) -> Result<Metrics> {
    let mut metrics = Metrics::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').with_context(|| format!("no type: {line}"))?;
        let name = match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        };
        let metric = Metric { kind: kind.to_owned(), ..Metric::default() };
        ensure!(metrics.insert(name, metric).is_none(), "twice: {line}");
    }
    for sample in samples(text)? {
        let of_histogram =
            ["_bucket", "_sum", "_count"].iter().filter_map(|end| sample.name.strip_suffix(end));
        let name = of_histogram.into_iter().find(|name| metrics.contains_key(*name)).unwrap_or(&sample.name);
        let metric = metrics.get_mut(name).with_context(|| format!("{name} has no type"))?;
        metric.labels.extend(sample.labels.into_keys().filter(|label| label != "le"));
    }
    Ok(metrics)
}

/// What the tables of a page say: rows of name, type, labels and meaning below the heading `## HEADING`.
///
/// # Errors
/// There is no such heading, or a metric is there twice.
pub fn documented(page: &str, heading: &str) -> Result<Metrics> {
    let heading = format!("## {heading}\n");
    let (_, section) = page.split_once(&heading).with_context(|| format!("no {heading}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut metrics = Metrics::new();
    for line in section.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", name, kind, labels, ..] = cells[..] else { continue };
        let word =
            |text: &str| text.strip_prefix('`').and_then(|text| text.strip_suffix('`')).map(str::to_owned);
        let Some(name) = word(name) else { continue };
        let labels = labels.split(", ").filter_map(word).collect();
        ensure!(metrics.insert(name, Metric { kind: kind.to_owned(), labels }).is_none(), "twice: {line}");
    }
    Ok(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a_seconds x.\n# TYPE a_seconds histogram\na_seconds_sum{f=\"4\"} 1.5\n\
        a_seconds_count{f=\"4\"} 2\na_seconds_bucket{le=\"+Inf\",f=\"4\"} 2\n# HELP b x.\n# TYPE b counter\n\
        b_total{x=\"a, b} c\",y=\"\"} 7\n# TYPE c gauge\nc 1\n# TYPE d counter\n# EOF\n";

    #[test]
    fn a_text_has_its_metrics_with_their_labels() {
        let page = "# Page\n\n## Agent\n\n| metric | type | labels | |\n|---|---|---|---|\n\
            | `a_seconds` | histogram | `f` | x |\n| `b_total` | counter | `x`, `y` | x |\n| `c` | gauge | | x |\n\
            | `d_total` | counter | | x |\n\n## Other\n\n| `e` | gauge | | x |\n";
        assert_eq!(metrics(TEXT).unwrap(), documented(page, "Agent").unwrap());
        assert_eq!(documented(page, "Other").unwrap().into_keys().collect::<Vec<_>>(), ["e"]);
        assert!(documented(page, "None").is_err());
        let all = samples(TEXT).unwrap();
        assert_eq!((all[3].value, all[3].labels["x"].as_str()), (7.0, "a, b} c"));
        assert!(metrics("b_total 1\n").is_err() && metrics("# TYPE b counter\nb_total\n").is_err());
    }
}
