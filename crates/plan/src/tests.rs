//! Tests of the whole crate, against maps in memory that take one write at a time.

mod compile;
mod damage;
mod desired;
mod diff;
mod history;
mod maps;
mod room;
mod sequences;
mod world;
