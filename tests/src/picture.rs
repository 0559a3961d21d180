//! A picture of the dashboard: a real agent and a real controller, with traffic, scraped by a real Prometheus; the dashboard's own
//! queries, drawn.
//!
//! ```text
//! stage       what is there, and what happens to it
//! prometheus  the server, and questions to it
//! svg         panels as they are placed, drawn
//! ```

mod prometheus;
mod stage;
mod svg;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::chart::file;
use prometheus::Prometheus;
use stage::Stage;

/// One value of one series.
pub(crate) type Point = (f64, f64);

/// A line of a panel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// What it is called.
    pub(crate) name: String,
    /// Its values, by time.
    pub(crate) points: Vec<Point>,
}

/// Plays for `time`, and writes the picture into `path`.
///
/// # Errors
/// Something does not start, or a query is refused.
pub fn take(time: Duration, path: &Path) -> Result<()> {
    let dashboard: Value = serde_json::from_str(
        &fs::read_to_string(file("charts/balancing/dashboards/balancing.json"))
            .context("read the dashboard")?,
    )?;
    let stage = Stage::build()?;
    let prometheus = Prometheus::start(stage.host())?;
    let begun = Instant::now();
    let mut second = 0;
    while begun.elapsed() < time {
        stage.happens(second)?;
        second += 1;
        thread::sleep(Duration::from_secs(second).saturating_sub(begun.elapsed()));
    }
    let mut panels = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        let mut series = Vec::new();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().context("no query")?;
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            series.extend(prometheus.range(query, legend, time)?);
        }
        panels.push((panel, series));
    }
    fs::write(path, svg::draw(&panels, time)).with_context(|| format!("write {}", path.display()))
}
