//! Loading, pinning, attaching and replacing programs; batched map writes; the ring buffer; feature probes.
