//! The `balancing` command.
fn main() {}
