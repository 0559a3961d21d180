//! Map keys and values, event records, verdicts and reasons shared by the kernel and user space.
