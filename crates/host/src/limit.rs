//! Limits of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Error, Result};

/// Lets this process open as many files as it may, and says how many that is: shells and service managers give
/// 1,024, whatever the hard limit.
///
/// # Errors
/// That is less than `least`.
pub fn raise_open_files(least: u64) -> Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Nothing is lost if that is refused; what counts is what is in force then.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // `None` is no limit.
    let limit = getrlimit(Resource::Nofile).current.or(current).unwrap_or(u64::MAX);
    if limit < least { Err(Error::OpenFiles { limit, least }) } else { Ok(limit) }
}

/// Pieces of this size and more go back to the system when they are freed. It is glibc's own first choice.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 128 << 10;

/// Has all threads take memory from one heap, and large pieces from the system. glibc gives each thread a heap of its own,
/// which keeps the most that it ever needed: threads that look after sockets come and go, and each would keep a list of all
/// sockets' worth. And once it has seen a large piece freed it takes the next from the heap, where a plan or a list that is
/// needed for a moment leaves a hole for ever.
///
/// Call it before there are other threads. Other C libraries do so anyway.
pub fn use_heap_sparingly() {
    #[cfg(target_env = "gnu")]
    // SAFETY: numbers only.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Gives back what the heap has of whole pages that nobody uses.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and what it gives back is in nobody's hands.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_open_files(1).unwrap();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        let error = raise_open_files(u64::MAX);
        if limit < u64::MAX {
            let text = error.unwrap_err().to_string();
            assert!(text.contains(&limit.to_string()) && text.contains("ulimit -n"), "{text}");
        }
    }
}
