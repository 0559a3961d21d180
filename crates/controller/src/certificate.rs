//! The certificate by which API servers know the webhook, and whom they are to trust for it.
//!
//! ```text
//! pair     a certificate and its key, read and understood
//! issue    a new pair, and the authority that has signed it
//! stock    what a Secret holds, and what is to become of it as time goes by
//! secret   a Secret that all controllers of a cluster share
//! files    given ones, that are replaced by somebody else
//! served   which is in force here, for whoever connects
//! trust    telling API servers, in the webhook configurations
//! ```

pub(crate) mod files;
mod issue;
mod pair;
pub(crate) mod secret;
mod served;
mod stock;
pub(crate) mod trust;

pub(crate) use self::{
    pair::{Pair, Validity},
    served::Served,
};
