//! Where the kernel keeps the fields of its structures, as its BTF says.
//!
//! Format: kernel 6.18 Documentation/bpf/btf.rst, include/uapi/linux/btf.h. Read by ourselves, as
//! the parser of aya-obj 0.3 keeps members to itself; nothing is kept but the four fields that are looked for.

use std::{collections::BTreeMap, fs, io};

use abi::cgroup::Offsets;

/// Where the kernel shows its own.
pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// `BTF_KIND_…`.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const ENUM64: u32 = 19;
}

/// Where this kernel keeps what the program `cgroup_mkdir` needs.
///
/// # Errors
/// It has no BTF, or keeps something else there.
pub(crate) fn offsets() -> io::Result<Offsets> {
    let bytes = fs::read(VMLINUX)?;
    find(&bytes).ok_or_else(|| {
        let missing = "no cgroup.kn, cgroup.root, cgroup_root.hierarchy_id or kernfs_node.id there";
        io::Error::new(io::ErrorKind::InvalidData, missing)
    })
}

/// The fields that are looked for, by structure and name.
const WANTED: [(&str, &str); 4] =
    [("cgroup", "kn"), ("kernfs_node", "id"), ("cgroup", "root"), ("cgroup_root", "hierarchy_id")];

fn find(bytes: &[u8]) -> Option<Offsets> {
    if bytes.get(..2)? != MAGIC.to_ne_bytes() {
        return None;
    }
    let header = word(bytes, 4)? as usize;
    let section = |at: usize| {
        let start = header.checked_add(word(bytes, at)? as usize)?;
        bytes.get(start..start.checked_add(word(bytes, at + 4)? as usize)?)
    };
    let (types, names) = (section(8)?, section(16)?);
    let mut found = BTreeMap::new();
    let mut at = 0;
    while at < types.len() && found.len() < WANTED.len() {
        let (name, info) = (word(types, at)?, word(types, at + 4)?);
        let (kind, count) = (info >> 24 & 31, info as usize & 0xffff);
        let members = at + 12;
        if kind == kind::STRUCT {
            let structure = text(names, name)?;
            for wanted in WANTED.iter().filter(|(it, _)| it.as_bytes() == structure) {
                for member in (0..count).map(|n| members + n * 12) {
                    if text(names, word(types, member)?)? == wanted.1.as_bytes() {
                        // With the flag the high byte is the size of a bit field, and none of these is one.
                        let bits =
                            word(types, member + 8)? & if info >> 31 == 1 { 0xff_ffff } else { u32::MAX };
                        found.insert(*wanted, bits / 8);
                    }
                }
            }
        }
        at = members
            + match kind {
                kind::INT | kind::VAR | kind::DECL_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * count,
                kind::ENUM | kind::FUNC_PROTO => 8 * count,
                _ => 0,
            };
    }
    let [node, id, root, hierarchy] = WANTED.map(|wanted| found.get(&wanted).copied());
    Some(Offsets { node: node?, id: id?, root: root?, hierarchy: hierarchy? })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A zero-terminated name.
fn text(names: &[u8], at: u32) -> Option<&[u8]> {
    names.get(at as usize..)?.split(|byte| *byte == 0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, then types as words.
    fn btf(names: &str, types: &[u32]) -> Vec<u8> {
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut bytes = Vec::from(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        let (len, names) = (types.len() as u32, names.as_bytes());
        for word in [24, 0, len, len, names.len() as u32] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        [bytes, types, names.into()].concat()
    }

    #[test]
    fn fields_are_found_among_types_of_all_sizes() {
        const NAMES: &str = "\0cgroup\0kn\0root\0cgroup_root\0hierarchy_id\0kernfs_node\0id\0other\0";
        let name = |text: &str| NAMES.find(&format!("\0{text}\0")).unwrap() as u32 + 1;
        let structure = |it: &str, flag: u32, members: &[(&str, u32)]| {
            let head = vec![name(it), flag << 31 | kind::STRUCT << 24 | members.len() as u32, 0];
            let members = members.iter().flat_map(|(member, at)| [name(member), 0, *at]);
            head.into_iter().chain(members).collect::<Vec<u32>>()
        };
        let mut types = vec![0, kind::INT << 24, 4, 0];
        types.extend([0, kind::ARRAY << 24, 0, 1, 1, 4]);
        types.extend([0, kind::ENUM << 24 | 2, 4, name("kn"), 0, name("id"), 1]);
        types.extend([0, 2 << 24, 1]);
        types.extend(structure("other", 0, &[("kn", 8), ("id", 16)]));
        types.extend(structure("kernfs_node", 0, &[("root", 0), ("id", 96 * 8)]));
        types.extend([0, kind::FUNC_PROTO << 24 | 1, 0, 0, 1]);
        types.extend(structure("cgroup", 1, &[("kn", (8 << 24) | (256 * 8)), ("root", 264 * 8)]));
        let without = btf(NAMES, &types);
        assert_eq!(find(&without), None, "there is no cgroup_root");
        types.extend(structure("cgroup_root", 0, &[("hierarchy_id", 44 * 8)]));
        let whole = btf(NAMES, &types);
        let expected = Offsets { node: 256, id: 96, root: 264, hierarchy: 44 };
        assert_eq!(find(&whole), Some(expected));
        for len in 0..whole.len() {
            let cut = find(&whole[..len]);
            assert!(cut.is_none(), "{len}: {cut:?}");
        }
    }

    #[test]
    fn this_kernel_says_where_they_are() {
        let offsets = offsets().unwrap();
        assert!(offsets.node > 0 && offsets.root > offsets.node, "{offsets:?}");
    }
}
