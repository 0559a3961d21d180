//! R8: connected UDP sockets whose backend has gone are closed, wherever they are, and nobody else's are; slots that
//! sockets of the kernel leave behind are freed, and no living socket's.

#![allow(clippy::unwrap_used)]

mod closed;
mod found;
mod late;
mod leaked;
mod machine;
mod sockets;
