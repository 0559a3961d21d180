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
mod policies;
mod room;
mod sequences;
mod spy;
mod storage;
mod world;
