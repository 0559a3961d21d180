//! DNS: a name server that says which one it is, and clients of the kinds that ask.
//!
//! ```text
//! server     Hickory's name server with a zone of its own
//! resolver   a client with a habit of using sockets, and one retry
//! crowd      such clients in the background, and what came of each of their questions
//! ```

pub mod crowd;
pub mod resolver;
pub mod server;

pub use crowd::{Asked, Crowd};
pub use resolver::{Habit, Resolver};
pub use server::NameServer;

/// The name that is asked for. Its address is that of the name server which answers.
pub const NAME: &str = "who.dns.test.";
