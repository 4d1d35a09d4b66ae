//! The protocol: both eras on one endpoint, decided from the body first, and stdio.
//!
//! [`endpoint`] takes a request apart ([`strict`] reads JSON, [`envelope`] JSON-RPC) and hands it to [`modern`] (rmcp's
//! service, stateless already) or [`legacy`] (ours, over rmcp's pieces). All end in the same [`handler`]; [`resources`]
//! are what sessions keep.

pub(crate) mod endpoint;

mod strict;

mod envelope;

mod answer;

mod modern;

mod legacy;

pub(crate) mod stdio;

pub(crate) mod handler;

mod render;
mod size;

mod resources;
