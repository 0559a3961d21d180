//! The mount table.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use crate::error::{Result, read};

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory of the file system that is visible there; `/` for all of it.
    pub root: String,
    /// Where.
    pub point: PathBuf,
    /// Type of the file system.
    pub kind: String,
}

/// The mounts that this process sees, in the order they were made.
pub fn mounts() -> Result<Vec<Mount>> {
    Ok(parse(&read("/proc/self/mountinfo")?))
}

/// Reads the text of a `mountinfo` file; lines of another form are left out.
pub fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    // id parent device root point options optional-fields... - type source options
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    Some(Mount {
        root: String::from_utf8_lossy(&unescape(root)).into_owned(),
        point: OsString::from_vec(unescape(point)).into(),
        kind: after.split(' ').next()?.to_owned(),
    })
}

/// The kernel writes space, tab, new line and backslash as `\` and three octal digits.
fn unescape(field: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let table = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:7 master:1 - cgroup2 cgroup2 rw\n\
            42 31 0:39 /a\\040b /mnt/with\\040space\\134 rw - ext4 /dev/vda rw\nnonsense\n";
        let expected = [
            Mount { root: "/".into(), point: "/sys/fs/cgroup/unified".into(), kind: "cgroup2".into() },
            Mount { root: "/a b".into(), point: "/mnt/with space\\".into(), kind: "ext4".into() },
        ];
        assert_eq!(parse(table), expected);
    }

    #[test]
    fn a_stray_backslash_stays() {
        assert_eq!(unescape("a\\9b\\"), b"a\\9b\\");
    }
}
