//! A 64-bit word that several CPUs may touch at once, in the kernel and in user space.
//!
//! `core`'s `AtomicU64` has no compare-and-swap on the bpf target (rustc 1.95: its `atomic_cas` is false),
//! though the machine has it (instruction set v3, kernel 5.12). There the compiler's intrinsics are used
//! directly. Loads and stores are relaxed, read-modify-writes are full barriers on both sides, which is what the
//! bpf instructions with BPF_FETCH are (kernel Documentation/bpf/standardization/instruction-set.rst).

#[cfg(not(target_arch = "bpf"))]
mod inner {
    use core::sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
    };

    /// A word.
    #[repr(transparent)]
    #[derive(Debug, Default)]
    pub struct Word(AtomicU64);

    impl Word {
        /// A word with this in it.
        #[inline(always)]
        pub const fn new(value: u64) -> Self {
            Self(AtomicU64::new(value))
        }

        /// Reads it.
        #[inline(always)]
        pub fn load(&self) -> u64 {
            self.0.load(Relaxed)
        }

        /// Writes it.
        #[inline(always)]
        pub fn store(&self, value: u64) {
            self.0.store(value, Relaxed);
        }

        /// Writes it, and gives back what was there.
        #[inline(always)]
        pub fn swap(&self, value: u64) -> u64 {
            self.0.swap(value, SeqCst)
        }

        /// Writes `new` if `old` is there; was it?
        #[inline(always)]
        pub fn replace(&self, old: u64, new: u64) -> bool {
            self.0.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
        }

        /// Sets bits, and gives back what was there.
        #[inline(always)]
        pub fn set(&self, bits: u64) -> u64 {
            self.0.fetch_or(bits, SeqCst)
        }

        /// Clears all bits but these, and gives back what was there.
        #[inline(always)]
        pub fn keep(&self, bits: u64) -> u64 {
            self.0.fetch_and(bits, SeqCst)
        }

        /// Adds, and gives back what was there.
        #[inline(always)]
        pub fn add(&self, value: u64) -> u64 {
            self.0.fetch_add(value, SeqCst)
        }
    }
}

#[cfg(target_arch = "bpf")]
// Documented above.
#[allow(unsafe_code, missing_docs)]
mod inner {
    use core::{
        cell::UnsafeCell,
        intrinsics::{AtomicOrdering::SeqCst, atomic_and, atomic_cxchg, atomic_or, atomic_xadd, atomic_xchg},
    };

    #[repr(transparent)]
    #[derive(Default)]
    pub struct Word(UnsafeCell<u64>);

    // SAFETY: every access is a single instruction on an aligned word.
    unsafe impl Sync for Word {}

    impl Word {
        #[inline(always)]
        pub const fn new(value: u64) -> Self {
            Self(UnsafeCell::new(value))
        }

        #[inline(always)]
        pub fn load(&self) -> u64 {
            // SAFETY: valid and aligned by construction; one instruction.
            unsafe { self.0.get().read_volatile() }
        }

        #[inline(always)]
        pub fn store(&self, value: u64) {
            // SAFETY: as in `load`.
            unsafe { self.0.get().write_volatile(value) }
        }

        #[inline(always)]
        pub fn swap(&self, value: u64) -> u64 {
            // SAFETY: as in `load`.
            unsafe { atomic_xchg::<u64, { SeqCst }>(self.0.get(), value) }
        }

        #[inline(always)]
        pub fn replace(&self, old: u64, new: u64) -> bool {
            // SAFETY: as in `load`.
            unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(self.0.get(), old, new).1 }
        }

        #[inline(always)]
        pub fn set(&self, bits: u64) -> u64 {
            // SAFETY: as in `load`.
            unsafe { atomic_or::<u64, u64, { SeqCst }>(self.0.get(), bits) }
        }

        #[inline(always)]
        pub fn keep(&self, bits: u64) -> u64 {
            // SAFETY: as in `load`.
            unsafe { atomic_and::<u64, u64, { SeqCst }>(self.0.get(), bits) }
        }

        #[inline(always)]
        pub fn add(&self, value: u64) -> u64 {
            // SAFETY: as in `load`.
            unsafe { atomic_xadd::<u64, u64, { SeqCst }>(self.0.get(), value) }
        }
    }
}

pub use inner::Word;
