//! Kubernetes objects: the API server's defaults, validation, conversion to the model.
//!
//! [`convert`] takes any document; [`from_service`] and its siblings take the typed objects that watchers
//! deliver. Both apply the defaults that the API server would have applied, so that a hand-written manifest
//! and an object from a cluster mean the same.
#![forbid(unsafe_code)]

mod cidr;
mod document;
mod field;
mod identity;
mod invalid;
mod list;
mod namespace;
mod node;
mod notice;
mod pod;
pub mod policy;
mod sent;
mod service;
mod slice;
mod socket_lb;

pub use cidr::from_cidr;
pub use document::{Converted, convert, from_json};
pub use invalid::Invalid;
pub use list::items;
pub use namespace::from_namespace;
pub use node::{FIELD_MANAGER, from_node};
pub use notice::Notice;
pub use pod::from_pod;
pub use service::from_service;
pub use slice::{SLICE_MANAGER, from_slice};
