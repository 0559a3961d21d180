//! Kernel, process and scenario tests.
