//! The rules, each by its number.

mod carrying;
mod choosing;
mod connections;
mod datagrams;
mod forgetting;
mod history;
mod sequences;
mod world;
