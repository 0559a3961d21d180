//! What keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    sheet::{Line, Order, Sheet, Tab},
    view::View,
};

/// What is to be shown, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Controls {
    pub(super) tab: Tab,
    /// Of each tab; `None`: the busiest first, as pictures come.
    orders: [Option<Order>; Tab::ALL.len()],
    /// Rows have these words.
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) is_typing: bool,
    /// Pictures stay as they are.
    pub(super) is_frozen: bool,
    /// The row that the cursor is on, by what it says: it stays on it wherever it goes.
    cursor: Option<String>,
}

/// Is there more to do?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Show what there is.
    Draw,
    /// That was it.
    Quit,
}

/// Where each key is told of: in `--help`, and in a line on the screen.
pub(super) const KEYS: &str = "\
Keys:
  1 to 5, Tab      services, failures, clients, policies, maps
  Up, Down, j, k   choose a row; of a service its backends and failures are shown
  PgUp, PgDn, Home, End
  s, S             sort by the next column, the one before
  r                the other way around
  /                filter: only rows with these words; Enter keeps it, Esc takes it away
  space            freeze, and go on
  q, Esc, ctrl-C   quit";

/// How far a page is.
const PAGE: isize = 8;

impl Controls {
    /// What is to be seen of a picture, in order.
    pub(super) fn sheet(&self, view: &View) -> Sheet {
        let mut sheet = Sheet::new(view, self.tab);
        sheet.filter(&self.filter);
        if let Some(order) = self.order() {
            sheet.sort(order);
        }
        sheet
    }

    /// Which column rows are sorted by; `None`: by how busy they are.
    pub(super) fn order(&self) -> Option<Order> {
        self.orders[self.tab.index()]
    }

    /// Where the cursor is.
    pub(super) fn row(&self, sheet: &Sheet) -> usize {
        let key = self.cursor.as_ref();
        let found = key.and_then(|key| sheet.lines.iter().position(|line| line.key() == *key));
        found.unwrap_or_default()
    }

    /// A key, while this sheet is shown.
    pub(super) fn press(&mut self, key: KeyEvent, sheet: &Sheet) -> Next {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if matches!(key.code, KeyCode::Char('c')) { Next::Quit } else { Next::Draw };
        }
        if self.is_typing {
            self.type_filter(key.code);
            return Next::Draw;
        }
        match key.code {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Next::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char(' ') => self.is_frozen = !self.is_frozen,
            KeyCode::Char(digit @ '1'..='5') => {
                let place = digit.to_digit(10).map_or(0, |digit| digit as usize - 1);
                self.show(Tab::ALL[place]);
            }
            KeyCode::Tab => self.show(Tab::ALL[(self.tab.index() + 1) % Tab::ALL.len()]),
            KeyCode::BackTab => {
                self.show(Tab::ALL[(self.tab.index() + Tab::ALL.len() - 1) % Tab::ALL.len()]);
            }
            KeyCode::Char('s') => self.sort_by(sheet, 1),
            KeyCode::Char('S') => self.sort_by(sheet, sheet.heads.len() - 1),
            KeyCode::Char('r') => {
                let order = self.order().unwrap_or(Order { column: 1, down: true });
                self.orders[self.tab.index()] = Some(Order { down: !order.down, ..order });
            }
            KeyCode::Down | KeyCode::Char('j') => self.move_by(sheet, 1),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(sheet, -1),
            KeyCode::PageDown => self.move_by(sheet, PAGE),
            KeyCode::PageUp => self.move_by(sheet, -PAGE),
            KeyCode::Home => self.move_by(sheet, isize::MIN),
            KeyCode::End => self.move_by(sheet, isize::MAX),
            _ => {}
        }
        Next::Draw
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
    }

    fn show(&mut self, tab: Tab) {
        if self.tab != tab {
            (self.tab, self.cursor) = (tab, None);
        }
    }

    /// By the column `steps` further; words from A, numbers from the greatest.
    fn sort_by(&mut self, sheet: &Sheet, steps: usize) {
        let column = match self.order() {
            Some(order) => (order.column + steps) % sheet.heads.len(),
            None => 0,
        };
        let down = sheet.heads.get(column).is_some_and(|head| head.is_number);
        self.orders[self.tab.index()] = Some(Order { column, down });
    }

    fn move_by(&mut self, sheet: &Sheet, rows: isize) {
        let last = sheet.lines.len().saturating_sub(1);
        let row = self.row(sheet).saturating_add_signed(rows).min(last);
        self.cursor = sheet.lines.get(row).map(Line::key);
    }
}
