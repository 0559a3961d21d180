//! A picture on a terminal; 80 by 24 will do.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line as Words, Span, Text},
    widgets::{Cell, Paragraph, Row, Table, TableState, Wrap},
};

use super::{
    controls::Controls,
    sheet::{Cell as SheetCell, Line, Mark, Order, Sheet, Tab, Width},
    view::{Busy, MapRow, View},
};
use crate::width::{cut, wrap};

/// What is on the screen.
pub(super) struct Shown<'a> {
    /// `None`: nobody has answered so far.
    pub(super) view: Option<&'a View>,
    pub(super) controls: &'a Controls,
    /// Why there is no newer picture.
    pub(super) trouble: Option<&'a str>,
}

/// The last line.
const HELP: &str = "q quit  1-5 Tab views  Up Down choose  s sort  r reverse  / filter  space freeze";

/// Lines that what is to be known may take.
const NEWS: usize = 3;

/// Failures of a service that are told of below its backends.
const REASONS: usize = 3;

/// Puts it on the screen.
pub(super) fn draw(frame: &mut Frame<'_>, shown: &Shown<'_>) {
    let news = told_of(shown);
    let told = wrap(&news.to_string(), usize::from(frame.area().width)).len().clamp(1, NEWS) as u16;
    let rows = [
        Constraint::Length(1),
        Constraint::Length(told),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ];
    let [title, told, tabs, body, help] = frame.area().layout(&Layout::vertical(rows));
    frame.render_widget(heading(shown), title);
    frame.render_widget(Paragraph::new(news).wrap(Wrap { trim: true }), told);
    frame.render_widget(choices(shown.controls), tabs);
    frame.render_widget(Words::from(HELP).dim(), help);
    let Some(view) = shown.view else { return };
    let sheet = shown.controls.sheet(view);
    if sheet.lines.is_empty() {
        let why = match shown.controls.filter.as_str() {
            "" => shown.controls.tab.empty().to_owned(),
            filter => format!("nothing has {filter:?} in it; Esc takes the filter away"),
        };
        frame.render_widget(Words::from(why).dim(), body);
        return;
    }
    let row = shown.controls.row(&sheet);
    let chosen = sheet.lines.get(row).and_then(|line| busy(view, shown.controls.tab, line));
    let Some(chosen) = chosen else {
        table(frame, body, &sheet, shown.controls.order(), Some(row));
        return;
    };
    let below = (body.height / 2).min(chosen.backends.len() as u16 + 2 + REASONS as u16);
    let [list, detail] = body.layout(&Layout::vertical([Constraint::Min(3), Constraint::Length(below)]));
    table(frame, list, &sheet, shown.controls.order(), Some(row));
    details(frame, detail, chosen);
}

/// The service of a row.
fn busy<'a>(view: &'a View, tab: Tab, line: &Line) -> Option<&'a Busy> {
    let key = line.key();
    (tab == Tab::Services).then(|| view.services.iter().find(|it| it.target.to_string() == key))?
}

fn heading<'a>(shown: &Shown<'a>) -> Words<'a> {
    let mut words = vec!["balancing top".bold(), "  ".into()];
    let Some(view) = shown.view else {
        return Words::from(words);
    };
    let state = match view {
        _ if shown.trouble.is_some() => "no answer".red().bold(),
        View { paused: true, .. } => "PAUSED".yellow().bold(),
        View { problems, .. } if problems.is_empty() => "healthy".green(),
        _ => "degraded".red().bold(),
    };
    words.extend([view.node.clone().into(), "  ".into(), state]);
    words.push(format!("  {:.1}/s", view.per_second).into());
    let failed = Span::from(format!(", {:.1}/s fail", view.failed_per_second));
    words.push(if view.failed_per_second > 0.0 { failed.red() } else { failed });
    if let Some(time) = &view.time {
        // 2026-11-23T10:00:00.12Z: only the time of day, as all of it is today's.
        let time = time.split('T').nth(1).unwrap_or(time).split(['.', 'Z']).next().unwrap_or(time);
        words.push(format!("  {time} UTC").into());
    }
    if shown.controls.is_frozen {
        words.push("  FROZEN".yellow().bold());
    }
    Words::from(words)
}

/// What is to be known wherever one looks: no answers, problems, full maps.
fn told_of<'a>(shown: &Shown<'a>) -> Words<'a> {
    let Some(view) = shown.view else {
        return match shown.trouble {
            Some(trouble) => Words::from(format!("{trouble}; trying again")).red(),
            None => Words::from("asking the agent").dim(),
        };
    };
    if let Some(trouble) = shown.trouble {
        return Words::from(format!("{trouble}; trying again, these are old figures")).red();
    }
    if let Some(problem) = view.problems.first() {
        let more = match view.problems.len() {
            1 => String::new(),
            count => format!(" (and {} more: balancing status)", count - 1),
        };
        return Words::from(format!("{problem}{more}")).red();
    }
    let use_of = |map: &MapRow| format!("{} {} %", map.map.name, map.percent);
    let filling: Vec<String> = view.maps.iter().filter(|map| map.is_filling()).map(use_of).collect();
    if !filling.is_empty() {
        return Words::from(format!("maps that fill up: {}", filling.join(", "))).yellow();
    }
    let fullest = view.maps.first().map_or("none".into(), use_of);
    let rest = match view.unattributed {
        0 => String::new(),
        count => format!("; {count} decisions had no room to be counted by client"),
    };
    Words::from(format!("fullest map: {fullest}{rest}")).dim()
}

fn choices(controls: &Controls) -> Words<'_> {
    let mut words: Vec<Span<'_>> = Vec::new();
    for (place, tab) in Tab::ALL.into_iter().enumerate() {
        let name = format!("{} {}", place + 1, tab.name());
        words.push(if tab == controls.tab { name.reversed() } else { name.into() });
        words.push("  ".into());
    }
    if controls.is_typing {
        words.push(format!("filter: {}_", controls.filter).yellow());
    } else if !controls.filter.is_empty() {
        words.push(format!("filter: {}", controls.filter).yellow());
    }
    Words::from(words)
}

fn style(mark: Mark) -> Style {
    match mark {
        Mark::None => Style::new(),
        Mark::Warn => Style::new().fg(Color::Yellow),
        Mark::Bad => Style::new().fg(Color::Red),
    }
}

fn table(frame: &mut Frame<'_>, area: Rect, sheet: &Sheet, order: Option<Order>, row: Option<usize>) {
    let columns: Vec<_> = sheet.columns(area.width).collect();
    let widths: Vec<Constraint> = columns
        .iter()
        .map(|(_, head)| match head.width {
            Width::Fixed(width) => Constraint::Length(width),
            Width::Rest(share) => Constraint::Fill(share),
        })
        .collect();
    // As the table will have them, one blank between each.
    let places = Layout::horizontal(widths.clone()).spacing(1).split(area);
    let aligned = |text: String, is_number: bool| {
        let text = Text::from(text);
        Cell::new(if is_number { text.right_aligned() } else { text })
    };
    let heads = columns.iter().map(|(column, head)| {
        let name = aligned(head.name.to_owned(), head.is_number);
        let is_order = order.is_some_and(|order| order.column == *column);
        name.style(if is_order { Modifier::UNDERLINED } else { Modifier::empty() })
    });
    // The rows around the cursor: a busy node has thousands.
    let seen = usize::from(area.height.saturating_sub(1)).max(1);
    let first = row.map_or(0, |row| (row + 1).saturating_sub(seen));
    let rows = sheet.lines.iter().skip(first).take(seen).map(|line| {
        let cells = columns.iter().zip(places.iter()).filter_map(|((column, head), place)| {
            let text = |cell: &SheetCell| cut(&cell.text(), place.width.into());
            line.cells.get(*column).map(|cell| aligned(text(cell), head.is_number))
        });
        Row::new(cells).style(style(line.mark))
    });
    let table =
        Table::new(rows, widths).header(Row::new(heads).bold()).row_highlight_style(Modifier::REVERSED);
    frame.render_stateful_widget(
        table,
        area,
        &mut TableState::new().with_selected(row.map(|row| row - first)),
    );
}

/// Backends of a service, and why its connections fail.
fn details(frame: &mut Frame<'_>, area: Rect, busy: &Busy) {
    let reasons: Vec<Words<'_>> = busy
        .failures
        .iter()
        .take(REASONS)
        .map(|why| {
            let minute = why.figures.minute;
            let text = format!(
                "{} ({}): minute {minute}, total {}, most by {}",
                why.verdict, why.reason, why.figures.total, why.client
            );
            let text = text.replace(char::is_control, "\u{fffd}");
            Words::styled(text, if minute > 0 { style(Mark::Bad) } else { Style::new() })
        })
        .collect();
    let rows = [Constraint::Length(1), Constraint::Min(0), Constraint::Length(reasons.len() as u16)];
    let [rule, list, why] = area.layout(&Layout::vertical(rows));
    let name = format!("── {} ", busy.target);
    let rest = usize::from(area.width).saturating_sub(name.chars().count());
    frame.render_widget(Words::from(name + &"─".repeat(rest)).dim(), rule);
    let sheet = Sheet::backends(busy);
    if sheet.lines.is_empty() {
        frame.render_widget(Words::from("no backends").dim(), list);
    } else {
        table(frame, list, &sheet, None, None);
    }
    frame.render_widget(Text::from(reasons), why);
}
