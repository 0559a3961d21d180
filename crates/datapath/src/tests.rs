//! The rules, each by its number.

mod affinity;
mod carrying;
mod choosing;
mod connections;
mod datagrams;
mod destination;
mod forgetting;
mod frontends;
mod history;
mod sequences;
mod spy;
mod world;
