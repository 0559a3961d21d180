//! Tables for people, JSON and YAML for machines.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::{
    tone::Tone,
    width::{cut, fit, width},
};

/// Form of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns that fit a screen
    #[default]
    #[value(alias = "text")]
    Table,
    /// All columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Something that can be a row of a listing.
pub(crate) trait Row: Serialize {
    /// Column heads; the wide ones are last.
    const HEADS: &'static [&'static str];
    /// How many columns the narrow table has.
    const NARROW: usize;
    /// Cells may be sentences.
    const PROSE: bool = false;
    /// The cells, one for each head.
    fn cells(&self) -> Vec<String>;
    /// How it is to be seen.
    fn tone(&self) -> Tone {
        Tone::Plain
    }
}

/// A cell of what there may be none of.
pub(crate) fn or_dash<T: ToString>(it: Option<T>) -> String {
    it.map_or("-".into(), |it| it.to_string())
}

/// Prints one thing: `text` for people.
pub(crate) fn show<T: Serialize + ?Sized>(
    thing: &T,
    format: Format,
    text: impl FnOnce(Format) -> String,
) -> anyhow::Result<()> {
    match format {
        Format::Json => print(&serde_json::to_string_pretty(thing)?),
        Format::Yaml => print(serde_saphyr::to_string(&thing)?.trim_end()),
        Format::Table | Format::Wide => print(&text(format)),
    }
}

/// Prints a listing; `empty` is what people are told when there is nothing.
pub(crate) fn list<R: Row>(rows: &[R], format: Format, empty: &str) -> anyhow::Result<()> {
    match format {
        Format::Json => print(&serde_json::to_string_pretty(rows)?),
        Format::Yaml => print(serde_saphyr::to_string(&rows)?.trim_end()),
        Format::Table | Format::Wide if rows.is_empty() => {
            eprintln!("{empty}");
            Ok(())
        }
        Format::Table | Format::Wide => {
            let columns = if format == Format::Wide { R::HEADS.len() } else { R::NARROW };
            let heads = R::HEADS.iter().take(columns);
            let cells = rows.iter().map(|row| row.cells().into_iter().take(columns).collect());
            if R::PROSE {
                return print(&prose_of(heads, cells));
            }
            // One line each, below the heads.
            let tones = std::iter::once(Tone::Plain).chain(rows.iter().map(Row::tone));
            let text = columns_of(heads, cells, width().filter(|_| format == Format::Table));
            let lines: Vec<String> = text.lines().zip(tones).map(|(line, tone)| tone.paint(line)).collect();
            print(&lines.join("\n"))
        }
    }
}

/// Aligned columns without lines, one line a row. Names that have no room in `width` are cut; addresses never are.
pub(crate) fn columns_of<H: ToString>(
    heads: impl Iterator<Item = H>,
    rows: impl Iterator<Item = Vec<String>>,
    width: Option<usize>,
) -> String {
    let heads: Vec<String> = heads.map(|head| head.to_string()).collect();
    let mut rows: Vec<Vec<String>> = rows.collect();
    if let Some(width) = width {
        let length = |text: &String| text.chars().count();
        let column = |place: usize| rows.iter().filter_map(move |row| row.get(place));
        let mut widths: Vec<usize> = heads
            .iter()
            .enumerate()
            .map(|(place, head)| column(place).chain([head]).map(length).max().unwrap_or_default())
            .collect();
        let least = heads.iter().zip(&widths).enumerate().map(|(place, (head, width))| {
            if column(place).any(|text| is_address(text)) { *width } else { length(head).max(LEAST) }
        });
        let least: Vec<usize> = least.collect();
        fit(&mut widths, &least, width);
        for row in &mut rows {
            for (text, width) in row.iter_mut().zip(&widths) {
                *text = cut(text, *width);
            }
        }
    }
    aligned(heads.into_iter(), rows.into_iter(), ContentArrangement::Disabled)
}

/// Characters of a name by which it is still known.
const LEAST: usize = 8;

fn is_address(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok() || text.parse::<IpAddr>().is_ok()
}

/// The same with sentences in it, which are folded to the width of a terminal. What is read by programs is not.
pub(crate) fn prose_of<H: ToString>(
    heads: impl Iterator<Item = H>,
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    aligned(heads, rows, ContentArrangement::Dynamic)
}

fn aligned<H: ToString>(
    heads: impl Iterator<Item = H>,
    rows: impl Iterator<Item = Vec<String>>,
    arrangement: ContentArrangement,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(arrangement);
    if let Some(width) = width() {
        table.set_width(width.try_into().unwrap_or(u16::MAX));
    }
    let heads: Vec<String> = heads.map(|head| head.to_string()).collect();
    if !heads.is_empty() {
        table.set_header(heads);
    }
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Says what is wrong with the command line, for what clap can't know.
pub(crate) fn wrong_usage(problem: &str) -> ExitCode {
    // As the parser of flags says it. Where nobody can be told, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "error: {problem}\n\nFor more information, try '--help'.");
    ExitCode::from(2)
}

/// Prints a line or more, and does not fall over a closed pipe as `println!` does. Colours are for terminals only.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// An error with its causes on one line, each said once: many of our errors tell their cause themselves.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Has the reader of our output gone?
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let inner = std::io::Error::other("disk on fire");
        let error =
            anyhow::Error::new(inner).context("open x: disk on fire; buy another").context("starting");
        assert_eq!(chain(&error), "starting: open x: disk on fire; buy another");
    }

    #[test]
    fn columns_are_aligned_and_have_no_trailing_blanks() {
        let rows = vec![vec!["a".into(), "10.0.0.1".into()], vec!["longer".into(), "b".into()]];
        let text = columns_of(["NAME", "ADDRESS"].iter(), rows.into_iter(), None);
        assert_eq!(text, "NAME    ADDRESS\na       10.0.0.1\nlonger  b");
    }

    #[test]
    fn names_are_cut_where_there_is_no_room_and_addresses_are_not() {
        let name = "a-pod-with-a-long-name-7d9f8b6c5d-x2x4z";
        let rows = || vec![vec![name.to_owned(), "[fd00:1::1234]:8080".into()]].into_iter();
        let of = |width| columns_of(["NAME", "ADDRESS"].iter(), rows(), width);
        assert_eq!(of(Some(40)).lines().last(), Some("a-pod-wit…c5d-x2x4z  [fd00:1::1234]:8080"));
        assert_eq!(of(Some(10)).lines().last(), Some("a-po…x4z  [fd00:1::1234]:8080"));
        assert!(of(None).contains(name), "programs read all of it");
    }
}
