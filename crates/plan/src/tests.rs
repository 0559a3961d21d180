//! Tests of the whole crate, against maps in memory that take one write at a time.

mod compile;
mod compile_outside;
mod damage;
mod describe;
mod desired;
mod diff;
mod history;
mod maps;
mod nodes;
mod policies;
mod recall;
mod room;
mod scale;
mod sequences;
mod world;
