//! Instructions of small programs that we write by hand, as 64-bit words (Documentation/bpf/standardization/
//! instruction-set.rst): code 8 bits, destination and source register 4 bits each, offset 16, immediate 32.

const fn instruction(code: u8, destination: u8, source: u8, immediate: i32) -> u64 {
    code as u64 | (destination as u64) << 8 | (source as u64) << 12 | (immediate as u32 as u64) << 32
}

/// `register = value`
pub(crate) const fn set(register: u8, value: i32) -> u64 {
    instruction(0xb7, register, 0, value)
}

/// `to = from`
pub(crate) const fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0)
}

/// `register += value`
pub(crate) const fn add(register: u8, value: i32) -> u64 {
    instruction(0x07, register, 0, value)
}

/// Calls a helper by its number: arguments in registers 1 to 5, the result in 0.
pub(crate) const fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, helper)
}

/// Returns register 0.
pub(crate) const EXIT: u64 = instruction(0x95, 0, 0, 0);

/// `*(u64 *)(address in register) = 0`
#[cfg(feature = "yardstick")]
pub(crate) const fn clear_word(register: u8) -> u64 {
    instruction(0x7a, register, 0, 0)
}

/// `register =` the map that is open as `fd`: one instruction of two words.
#[cfg(feature = "yardstick")]
pub(crate) const fn set_map(register: u8, fd: i32) -> [u64; 2] {
    const BPF_PSEUDO_MAP_FD: u8 = 1;
    [instruction(0x18, register, BPF_PSEUDO_MAP_FD, fd), 0]
}
