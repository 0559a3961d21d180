//! Panels as Grafana places them, drawn.

use std::{fmt::Write, time::Duration};

use serde_json::Value;

use super::{Point, Series};

/// Pixels of a unit of the grid.
const UNIT: (f64, f64) = (62.0, 27.0);
/// Around what is drawn in a panel: left, top, right, bottom.
const MARGIN: [f64; 4] = [48.0, 26.0, 10.0, 40.0];
/// Lines that a panel has room for in its legend.
const NAMED: usize = 6;
/// Told apart also by those who see no red and green (Okabe and Ito), the darkest left out.
const COLOURS: [&str; 7] = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2"];

/// The picture.
pub(super) fn draw(panels: &[(&Value, Vec<Series>)], time: Duration) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let place = |panel: &Value| ["x", "y", "w", "h"].map(|side| number(&panel["gridPos"][side]));
    let bottom = panels.iter().map(|(panel, _)| place(panel)).map(|[_, y, _, h]| y + h).fold(0.0, f64::max);
    let (width, height) = (24.0 * UNIT.0, bottom * UNIT.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\" fill=\"#ccccdc\">\n<rect width=\"100%\" height=\"100%\" fill=\"#111217\"/>\n"
    );
    for (panel, series) in panels {
        let [x, y, w, h] = place(panel);
        let size = (w * UNIT.0 - 6.0, h * UNIT.1 - 6.0);
        let title = escaped(panel["title"].as_str().unwrap_or_default());
        let _ = writeln!(svg, "<g transform=\"translate({},{})\">", x * UNIT.0 + 3.0, y * UNIT.1 + 3.0);
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
        match panel["type"].as_str() {
            Some("row") => {
                let _ = writeln!(
                    svg,
                    "<text x=\"4\" y=\"16\" font-size=\"14\" font-weight=\"bold\">{title}</text>"
                );
            }
            Some("stat") => {
                frame(&mut svg, &title, size);
                stat(&mut svg, series, unit, &panel["fieldConfig"]["defaults"]["thresholds"]["steps"], size);
            }
            _ => {
                frame(&mut svg, &title, size);
                graph(&mut svg, series, unit, size, time);
            }
        }
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn frame(svg: &mut String, title: &str, (width, height): (f64, f64)) {
    let _ = writeln!(
        svg,
        "<rect width=\"{width}\" height=\"{height}\" rx=\"3\" fill=\"#181b1f\" stroke=\"#2c3235\"/>\
         <text x=\"8\" y=\"17\" font-weight=\"bold\">{title}</text>"
    );
}

/// One number, in the colour of the step that it has reached.
fn stat(svg: &mut String, series: &[Series], unit: &str, steps: &Value, (width, height): (f64, f64)) {
    let last = series.first().and_then(|series| series.points.last()).map(|(_, value)| *value);
    let reached =
        |step: &&Value| step["value"].as_f64().is_none_or(|least| last.is_some_and(|it| it >= least));
    let step = steps.as_array().into_iter().flatten().rfind(reached);
    let colour = match step.and_then(|step| step["color"].as_str()) {
        Some("red") => "#d55e00",
        _ => "#73bf69",
    };
    let text = last.map_or("no data".into(), |value| shown(value, unit));
    let (x, y) = (width / 2.0, height / 2.0 + 18.0);
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"26\" text-anchor=\"middle\" fill=\"{colour}\">{text}</text>"
    );
}

fn graph(svg: &mut String, series: &[Series], unit: &str, (width, height): (f64, f64), time: Duration) {
    let [left, top, right, bottom] = MARGIN;
    let (inner, tall) = (width - left - right, height - top - bottom);
    let most = series.iter().flat_map(|it| &it.points).map(|(_, value)| *value).fold(0.0, f64::max);
    let step = nice(most / 4.0);
    let full = if most > 0.0 { (most / step).ceil() * step } else { 1.0 };
    if series.is_empty() {
        let (x, y) = (width / 2.0, top + tall / 2.0);
        let _ =
            writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" fill=\"#6e7278\">no data</text>");
        return;
    }
    let mut value = 0.0;
    while value <= full * 1.001 {
        let y = top + tall * (1.0 - value / full);
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {y:.0}h{inner:.0}\" stroke=\"#2c3235\"/>\
             <text x=\"{}\" y=\"{:.0}\" text-anchor=\"end\" font-size=\"10\">{}</text>",
            left - 4.0,
            y + 3.0,
            shown(value, unit)
        );
        value += if most > 0.0 { step } else { 1.0 };
    }
    let at = |(second, value): &Point| {
        let x = left + inner * second / time.as_secs_f64();
        (x.round() as i64, (top + tall * (1.0 - value / full)).round() as i64)
    };
    // The legend has room for some: for those that reach highest.
    let highest = |one: &Series| one.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut series: Vec<&Series> = series.iter().collect();
    series.sort_by(|a, b| highest(b).total_cmp(&highest(a)));
    let mut x = 8.0;
    for (number, one) in series.into_iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let _ = writeln!(
            svg,
            "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            line(one.points.iter().map(at))
        );
        if number < NAMED && x < width - 40.0 {
            // About as wide as letters of this size are.
            let room = ((width - x - 20.0) / 5.6) as usize;
            let name: String = one.name.chars().take(room).collect();
            let y = height - 9.0;
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.0} {:.0}h10\" stroke=\"{colour}\" stroke-width=\"3\"/>\
                 <text x=\"{:.0}\" y=\"{y:.0}\" font-size=\"10\">{}</text>",
                y - 3.0,
                x + 13.0,
                escaped(&name)
            );
            x += 24.0 + 5.6 * name.chars().count() as f64;
        }
    }
    let end = time.as_secs();
    for (second, anchor) in [(0, "start"), (end / 2, "middle"), (end, "end")] {
        let (x, y) = at(&(second as f64, 0.0));
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\" font-size=\"10\" fill=\"#8e8e8e\">{}:{:02}</text>",
            y + 13,
            second / 60,
            second % 60
        );
    }
}

/// A path: where it begins, and each step from there; it breaks where points are missing.
fn line(points: impl Iterator<Item = (i64, i64)>) -> String {
    let mut path = String::new();
    let mut before: Option<(i64, i64)> = None;
    for (x, y) in points {
        let _ = match before {
            Some((last, height)) if x - last < 20 => write!(path, "l{} {}", x - last, y - height),
            _ => write!(path, "M{x} {y}"),
        };
        before = Some((x, y));
    }
    path
}

/// The next of 1, 2, 5, 10, … that is not less.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let scale = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * scale).find(|it| *it >= value * 0.999).unwrap_or(value)
}

/// A value in a unit of Grafana's.
fn shown(value: f64, unit: &str) -> String {
    let short = |value: f64| {
        let (scaled, letter) = match value.abs() {
            it if it >= 1e9 => (value / 1e9, "G"),
            it if it >= 1e6 => (value / 1e6, "M"),
            it if it >= 1e3 => (value / 1e3, "k"),
            _ => (value, ""),
        };
        let text = if scaled.abs() >= 10.0 { format!("{scaled:.0}") } else { format!("{scaled:.2}") };
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        format!("{text}{letter}")
    };
    match unit {
        "percentunit" => format!("{} %", short(value * 100.0)),
        "cps" => format!("{}/s", short(value)),
        "bytes" => format!("{}B", short(value)),
        "s" if value == 0.0 => "0 s".into(),
        "s" if value < 1e-3 => format!("{} µs", short(value * 1e6)),
        "s" if value < 1.0 => format!("{} ms", short(value * 1e3)),
        "s" if value >= 2.0 * 86_400.0 => format!("{} days", short(value / 86_400.0)),
        "s" => format!("{} s", short(value)),
        _ => short(value),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_short() {
        for (value, unit, expected) in [
            (1234.0, "cps", "1.23k/s"),
            (0.5, "percentunit", "50 %"),
            (0.0025, "s", "2.5 ms"),
            (90.0 * 86_400.0, "s", "90 days"),
            (12.0e6, "bytes", "12MB"),
            (0.0, "short", "0"),
        ] {
            assert_eq!(shown(value, unit), expected);
        }
        assert_eq!([0.7, 1.0, 3.0, 60.0].map(nice), [1.0, 1.0, 5.0, 100.0]);
    }

    #[test]
    fn panels_are_drawn_where_they_are_and_say_when_there_is_nothing() {
        let panel = |kind: &str, x: u32| {
            json!({"type": kind, "title": "a < b", "gridPos": {"x": x, "y": 0, "w": 8, "h": 7},
                   "fieldConfig": {"defaults": {"unit": "cps"}}})
        };
        let series = Series { name: "x".into(), points: vec![(0.0, 1.0), (2.0, 3.0), (100.0, 2.0)] };
        let (full, empty, one) = (panel("timeseries", 0), panel("timeseries", 8), panel("stat", 16));
        let panels = [(&full, vec![series.clone()]), (&empty, vec![]), (&one, vec![series])];
        let svg = draw(&panels, Duration::from_secs(100));
        assert!(svg.contains("a &lt; b") && svg.contains("translate(499,3)") && svg.contains(">2/s</text>"));
        assert_eq!(svg.matches("no data").count(), 1, "{svg}");
        // From one point to the next, and a gap.
        assert!(svg.contains("l9 ") && svg.matches('M').count() > 2, "{svg}");
    }
}
