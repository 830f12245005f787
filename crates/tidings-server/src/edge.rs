//! The edge: where clients come in. Which listener there is, whose certificate it shows, and who is
//! behind it.
//!
//! [`plan`] decides all of that from the configuration alone, so that `tidings config check` and the
//! start agree; [`tls`] holds the certificates; [`front`] hands each request to the one it is for.
//! The sockets are [`crate::serve`]'s.

pub mod front;
pub mod plan;
pub mod tls;
