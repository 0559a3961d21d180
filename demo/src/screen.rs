//! What the demo shows: sections, sentences, commands with what they printed, and the live table.

use std::io::{self, IsTerminal, Stdout, Write};

use anyhow::Result;

use crate::traffic::{PODS, Tally};

const WIDTH: usize = 98;
const BAR: usize = 16;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Standard output, and whether a person sits there.
pub(crate) struct Screen {
    out: Stdout,
    is_terminal: bool,
    colours: bool,
    /// Lines of the table that stand at the bottom and are drawn over by the next one.
    live: usize,
}

/// What the table shows.
pub(crate) struct Picture<'a> {
    /// Since the demo began.
    pub(crate) tally: Tally,
    /// Exchanges a second just now, by pod.
    pub(crate) rates: [f64; PODS.len()],
    /// What the story has done to each pod.
    pub(crate) states: [&'a str; PODS.len()],
}

impl Screen {
    /// Colours only on a terminal whose user has nothing against them.
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        let colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out, is_terminal, colours, live: 0 }
    }

    /// Whether the table can be drawn over.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours && !text.trim().is_empty() {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn line(&mut self, text: &str) -> Result<()> {
        self.live = 0;
        writeln!(self.out, "{}", text.trim_end())?;
        Ok(())
    }

    /// The first line.
    pub(crate) fn title(&mut self, text: &str) -> Result<()> {
        let text = self.paint(BOLD, text);
        self.line(&text)
    }

    /// Begins a section.
    pub(crate) fn section(&mut self, title: &str) -> Result<()> {
        let rule = "─".repeat(WIDTH.saturating_sub(title.chars().count() + 4));
        let head = format!("── {} {rule}", self.paint(BOLD, title));
        self.line("")?;
        self.line(&head)
    }

    /// Sentences, line by line.
    pub(crate) fn say(&mut self, text: &str) -> Result<()> {
        for line in text.lines() {
            self.line(line)?;
        }
        Ok(())
    }

    /// A command, and what it printed.
    pub(crate) fn command(&mut self, command: &str, printed: &str) -> Result<()> {
        let command = format!("  {} {}", self.paint(DIM, "$"), self.paint(CYAN, command));
        self.line(&command)?;
        for line in printed.lines().flat_map(folded) {
            self.line(&format!("  {line}"))?;
        }
        Ok(())
    }

    /// Good news.
    pub(crate) fn good(&mut self, text: &str) -> Result<()> {
        let text = format!("{} {text}", self.paint(GREEN, "✓"));
        self.line(&text)
    }

    /// The table, over the one that was drawn last if nothing was said since.
    pub(crate) fn table(&mut self, picture: &Picture<'_>) -> Result<()> {
        let lines = self.rows(picture);
        let mut text = String::new();
        if self.live > 0 {
            text.push_str(&format!("\x1b[{}A", self.live));
        }
        for line in &lines {
            if self.is_terminal {
                text.push_str("\x1b[2K");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()?;
        self.live = if self.is_terminal { lines.len() } else { 0 };
        Ok(())
    }

    /// What is said from now on stands below the table.
    pub(crate) fn release(&mut self) {
        self.live = 0;
    }

    fn rows(&self, picture: &Picture<'_>) -> Vec<String> {
        let head = format!(
            "  {:<17}{:>9}{:>10}{:>10}{:>10}{:>10}   {:<BAR$}{:>8}",
            "POD", "TCP/IPv4", "UDP/IPv4", "TCP/IPv6", "UDP/IPv6", "TOTAL", "NOW", "PER S"
        );
        let mut lines = vec![self.paint(DIM, &head)];
        let top = picture.rates.into_iter().fold(1.0, f64::max);
        let rows = PODS.iter().zip(&picture.tally.answered).zip(picture.rates).zip(picture.states);
        for (pod, (((name, lanes), rate), state)) in rows.enumerate() {
            let name =
                self.padded(&format!("{name}  {}", self.paint(YELLOW, state)), name.len() + 2 + state.len());
            let counts: String = lanes.iter().map(|count| format!("{:>10}", grouped(*count))).collect();
            let bar = "█".repeat((rate / top * BAR as f64).round() as usize);
            let bar = self.paint(GREEN, &format!("{bar:<BAR$}"));
            let total = grouped(picture.tally.of_pod(pod));
            let now = grouped(rate.round() as u64);
            lines.push(format!("  {name}{counts}{total:>10}   {bar}{now:>8}"));
        }
        let Tally { failed, .. } = picture.tally;
        let verdict =
            self.paint(if failed == 0 { GREEN } else { RED }, &format!("{} failed", grouped(failed)));
        lines.push(format!("  {} exchanges, {verdict}", grouped(picture.tally.answers())));
        lines
    }

    /// `text` padded as if it were `length` long, which it is without its colours.
    fn padded(&self, text: &str, length: usize) -> String {
        format!("{text}{}", " ".repeat(16usize.saturating_sub(length)))
    }
}

/// A line that is too long for the screen, folded between the items of a list, or else between words; what goes on
/// stands below what it belongs to.
fn folded(line: &str) -> Vec<String> {
    let separator = if line.matches(", ").count() >= 3 { ", " } else { " " };
    let label = line.find("  ").filter(|at| *at > 0).map_or(4, |at| {
        let rest = line.get(at..).unwrap_or_default();
        at + rest.len() - rest.trim_start().len()
    });
    let mut lines = vec![String::new()];
    for item in line.split_inclusive(separator) {
        let Some(last) = lines.last_mut() else { continue };
        if last.chars().count() + item.trim_end().chars().count() > WIDTH - 2 {
            lines.push(format!("{:label$}{item}", ""));
        } else {
            last.push_str(item);
        }
    }
    lines
}

/// `12345` as `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Has the reader of our output gone?
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let all = [0, 12, 123, 1_234, 123_456, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }

    #[test]
    fn long_lines_are_folded_between_words() {
        let long = "word ".repeat(40);
        let lines = folded(&long);
        assert!(lines.iter().all(|line| line.trim_end().chars().count() <= WIDTH - 2), "{lines:?}");
        assert_eq!(lines.concat().split_whitespace().count(), 40);
        assert_eq!(folded("  short  line"), ["  short  line"]);
        let list = format!("map use   {}z 0 %", "name 0 %, ".repeat(9));
        assert_eq!(folded(&list).get(1).map(String::as_str), Some("          name 0 %, z 0 %"));
    }

    #[test]
    fn the_table_fits_a_hundred_columns() {
        let screen = Screen { out: io::stdout(), is_terminal: false, colours: false, live: 0 };
        let tally = Tally { answered: [[123_456; 4]; 3], failed: 0 };
        let picture = Picture { tally, rates: [12_345.0; 3], states: ["not ready", "gone", ""] };
        for line in screen.rows(&picture) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
