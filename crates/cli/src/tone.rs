//! Colours, on terminals: what is well, what is worth a look, what fails.

use anstyle::{AnsiColor, Style};

use crate::target::is_failure;

/// How something is to be seen. Only what [`print`](crate::output::print) writes on a terminal has colours, and none if
/// `NO_COLOR` is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Warn,
    Bad,
}

impl Tone {
    /// That of a verdict on a connection.
    pub(crate) fn of_verdict(verdict: &str) -> Self {
        if is_failure(verdict) {
            Self::Bad
        } else if verdict == abi::Verdict::Translated.name() {
            Self::Good
        } else {
            Self::Plain
        }
    }

    /// The text in its colour.
    pub(crate) fn paint(self, text: &str) -> String {
        let color = match self {
            Self::Plain => return text.to_owned(),
            Self::Good => AnsiColor::Green,
            Self::Warn => AnsiColor::Yellow,
            Self::Bad => AnsiColor::Red,
        };
        let style = Style::new().fg_color(Some(color.into()));
        format!("{style}{text}{style:#}")
    }

    /// The line with its first word in colour.
    pub(crate) fn paint_head(self, line: &str) -> String {
        match line.split_once(' ') {
            Some((head, rest)) => format!("{} {rest}", self.paint(head)),
            None => self.paint(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_coloured() {
        assert_eq!(Tone::of_verdict("refused").paint("x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Tone::of_verdict("translated").paint_head("a b"), "\x1b[32ma\x1b[0m b");
        assert_eq!(Tone::of_verdict("passed").paint("x"), "x");
        for verdict in ["denied", "unreachable"] {
            assert_eq!(Tone::of_verdict(verdict), Tone::Bad);
        }
    }
}
