//! When a file is full, and which files take whose place. No files here: sizes and what exists are told.

/// How a file is rotated: `events.log` becomes `events.log.1`, that becomes `events.log.2`, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// Bytes that a file holds.
    pub(crate) size: u64,
    /// Earlier files that are kept.
    pub(crate) keep: u32,
}

impl Rotation {
    /// How many bytes of whole `lines` still belong into a file that has `size` bytes. 0 = it is full. A line that is
    /// larger than a file gets one of its own.
    pub(crate) fn room(&self, size: u64, lines: &[u8]) -> usize {
        let left = usize::try_from(self.size.saturating_sub(size)).unwrap_or(usize::MAX);
        let whole = |part: &[u8]| part.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        match whole(lines.get(..left).unwrap_or(lines)) {
            0 if size == 0 => lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1),
            room => room,
        }
    }

    /// Who becomes whom, in this order, when the file in use (number 0) is full; `exists` says which earlier ones there
    /// are. Up to the first gap only: what is beyond it is in nobody's way. Without a target: removed.
    pub(crate) fn moves(&self, exists: impl Fn(u32) -> bool) -> Vec<(u32, Option<u32>)> {
        if self.keep == 0 {
            return vec![(0, None)];
        }
        let last = (1..self.keep).take_while(|number| exists(*number)).last().unwrap_or(0);
        (0..=last).rev().map(|number| (number, Some(number + 1))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_holds_whole_lines() {
        let rotation = Rotation { size: 10, keep: 1 };
        for (size, lines, room) in [
            (0, "abc\ndef\n", 8),
            (2, "abc\ndef\n", 8),
            (3, "abc\ndef\n", 4),
            (6, "abc\ndef\n", 4),
            (7, "abc\ndef\n", 0),
            (10, "abc\n", 0),
            (99, "abc\n", 0),
            // Larger than a file: one of its own.
            (0, "abcdefghijkl\nm\n", 13),
            (1, "abcdefghijkl\nm\n", 0),
        ] {
            assert_eq!(rotation.room(size, lines.as_bytes()), room, "{size} {lines:?}");
        }
    }

    #[test]
    fn files_move_up_to_the_first_gap() {
        let moves = |keep, there: &[u32]| Rotation { size: 1, keep }.moves(|number| there.contains(&number));
        assert_eq!(moves(5, &[]), [(0, Some(1))]);
        assert_eq!(moves(3, &[1, 2, 3]), [(2, Some(3)), (1, Some(2)), (0, Some(1))]);
        assert_eq!(moves(5, &[1, 3]), [(1, Some(2)), (0, Some(1))]);
        assert_eq!(moves(1, &[1]), [(0, Some(1))]);
        assert_eq!(moves(0, &[1]), [(0, None)]);
    }

    proptest! {
        /// The newest are kept, in their order, as many as there may be.
        #[test]
        fn the_newest_are_kept(keep in 0..6u32, times in 1..20u32) {
            let rotation = Rotation { size: 1, keep };
            let mut files: BTreeMap<u32, u32> = BTreeMap::new();
            for time in 1..=times {
                files.insert(0, time);
                for (from, to) in rotation.moves(|number| files.contains_key(&number)) {
                    let file = files.remove(&from).unwrap();
                    if let Some(to) = to {
                        files.insert(to, file);
                    }
                }
            }
            let expected: Vec<(u32, u32)> = (1..=keep.min(times)).map(|n| (n, times + 1 - n)).collect();
            prop_assert_eq!(files.into_iter().collect::<Vec<_>>(), expected);
        }

        /// Cut at any place no line is torn or lost, and no file is larger than it may be.
        #[test]
        fn lines_are_cut_nowhere(lengths in prop::collection::vec(0..30usize, 1..60), size in 1..100u64) {
            let rotation = Rotation { size, keep: 1 };
            let text: String = lengths.iter().map(|length| "x".repeat(*length) + "\n").collect();
            let (mut rest, mut files) = (text.as_bytes(), vec![Vec::new()]);
            while !rest.is_empty() {
                let file: &mut Vec<u8> = files.last_mut().unwrap();
                let (part, after) = rest.split_at(rotation.room(file.len() as u64, rest));
                if part.is_empty() {
                    prop_assert!(!file.is_empty());
                    files.push(Vec::new());
                } else {
                    file.extend(part);
                    rest = after;
                }
            }
            for file in &files {
                prop_assert_eq!(file.last(), Some(&b'\n'));
                let lines = file.iter().filter(|byte| **byte == b'\n').count();
                prop_assert!(file.len() as u64 <= size || lines == 1);
            }
            prop_assert_eq!(files.concat(), text.as_bytes());
        }
    }
}
