//! A picture as plain text, for pages and messages: 100 characters wide at most.

use super::{
    sheet::{Cell, Line, Sheet, Tab},
    view::{MapRow, View},
};
use crate::width::{USUAL, cut, fit, wrap};

/// Characters of a line, also on wider terminals: it is for pages and messages.
const WIDTH: usize = USUAL;

/// Rows of each kind; the rest is counted.
const MOST: usize = 10;

/// All of it.
pub(super) fn text(view: &View) -> String {
    let mut parts = vec![heading(view)];
    for tab in [Tab::Services, Tab::Failures, Tab::Policies] {
        let sheet = Sheet::new(view, tab);
        // What there is none of needs no heads, but services are what was asked for.
        if !sheet.lines.is_empty() {
            parts.push(columns(&sheet));
        } else if tab == Tab::Services {
            parts.push(tab.empty().to_owned());
        }
        if tab == Tab::Services {
            parts.extend(
                view.services
                    .iter()
                    .take(MOST)
                    .filter(|it| !it.backends.is_empty())
                    .map(|it| format!("{}\n{}", it.target, columns(&Sheet::backends(it)))),
            );
        }
    }
    parts.join("\n\n")
}

fn heading(view: &View) -> String {
    let state = match view {
        View { paused: true, .. } => "PAUSED",
        View { problems, .. } if problems.is_empty() => "healthy",
        _ => "degraded",
    };
    let time = view.time.as_ref().map_or(String::new(), |time| format!(" at {time}"));
    let mut lines = vec![format!(
        "{}{time}: {state}, {:.1} connections/s, {:.1}/s fail",
        view.node, view.per_second, view.failed_per_second
    )];
    lines.extend(view.problems.iter().flat_map(|problem| wrap(&format!("problem: {problem}"), WIDTH)));
    let use_of = |map: &MapRow| format!("{} {} %", map.map.name, map.percent);
    let filling: Vec<String> = view.maps.iter().filter(|map| map.is_filling()).map(use_of).collect();
    lines.push(match (filling.as_slice(), view.maps.first()) {
        ([], Some(fullest)) => format!("fullest map: {}", use_of(fullest)),
        ([], None) => "no maps".into(),
        (filling, _) => format!("maps that fill up: {}", filling.join(", ")),
    });
    if view.unattributed > 0 {
        lines.push(format!("{} decisions had no room to be counted by client", view.unattributed));
    }
    lines.join("\n")
}

/// Aligned columns, words cut where there is no room for them.
fn columns(sheet: &Sheet) -> String {
    let columns: Vec<_> = sheet.columns(WIDTH as u16).collect();
    let text = |line: &Line, column: usize| line.cells.get(column).map_or(String::new(), Cell::text);
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|(_, head)| head.name.to_owned()).collect()];
    let shown = sheet.lines.iter().take(MOST);
    rows.extend(shown.map(|line| columns.iter().map(|(column, _)| text(line, *column)).collect()));
    let length = |text: &String| text.chars().count();
    let widest = |place: usize| rows.iter().map(|row| length(&row[place])).max().unwrap_or_default();
    let mut widths: Vec<usize> = (0..columns.len()).map(widest).collect();
    // Words give way, numbers don't.
    let least: Vec<usize> = columns
        .iter()
        .zip(&widths)
        .map(|((_, head), width)| if head.is_number { *width } else { 0 })
        .collect();
    fit(&mut widths, &least, WIDTH);
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).zip(&columns).map(|((text, width), (_, head))| {
                if head.is_number {
                    format!("{text:>width$}")
                } else {
                    format!("{:<width$}", cut(text, *width))
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    if sheet.lines.len() > MOST {
        lines.push(format!("and {} more", sheet.lines.len() - MOST));
    }
    lines.join("\n")
}
