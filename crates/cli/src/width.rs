//! How wide a line may be, and what becomes of words that have no room.

/// Characters of a line of the terminal that is written to, or what `COLUMNS` says; `None` where neither is known, as
/// in a pipe: programs read whole words, however long.
pub(crate) fn width() -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|it| *it > 0);
    let terminal = || {
        use std::io::IsTerminal;
        let size = std::io::stdout().is_terminal().then(crossterm::terminal::size)?.ok();
        size.map(|(columns, _)| usize::from(columns)).filter(|it| *it > 0)
    };
    columns.or_else(terminal)
}

/// Characters of a line where nothing says how many there are.
pub(crate) const USUAL: usize = 100;

/// The text, or both ends of it if it has more than `width` characters: the end of a name or path tells as much as its
/// beginning.
pub(crate) fn cut(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let end = kept / 2;
    let mut short: String = text.chars().take(kept - end).collect();
    if width > 0 {
        short.push('…');
    }
    short.extend(text.chars().skip(length - end));
    short
}

/// Lines of at most `width` characters; a longer word has a line of its own.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Makes columns narrower until all, and two blanks between each, have room in `width`: the widest of those that may.
/// None becomes narrower than its least.
pub(crate) fn fit(widths: &mut [usize], least: &[usize], width: usize) {
    let gaps = 2 * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let wide = (0..widths.len()).filter(|place| widths[*place] > least[*place]);
        let Some(place) = wide.max_by_key(|place| widths[*place]) else { break };
        widths[place] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_what_is_cut_are_left() {
        for (width, expected) in
            [(11, "shop/cart-7"), (10, "shop/…rt-7"), (4, "sh…7"), (2, "s…"), (1, "…"), (0, "")]
        {
            assert_eq!(cut("shop/cart-7", width), expected);
        }
    }

    #[test]
    fn sentences_are_folded_between_words() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("one incomprehensible two", 7), ["one", "incomprehensible", "two"]);
        assert_eq!(wrap("", 7), Vec::<String>::new());
    }

    #[test]
    fn the_widest_column_gives_way() {
        let mut widths = [20, 10, 30];
        fit(&mut widths, &[5, 10, 5], 44);
        assert_eq!(widths, [15, 10, 15]);
        fit(&mut widths, &[5, 10, 5], 10);
        assert_eq!(widths, [5, 10, 5]);
    }
}
