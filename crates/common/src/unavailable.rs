//! What stores answer when they cannot.

use std::error::Error;

use crate::redis;

/// A store or the bus cannot answer. The cause is for the log only.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be reached")]
pub struct Unavailable {
    pub what: &'static str,
    #[source]
    pub cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Unavailable {
    /// For a reason that a library gave.
    pub fn because<E: Into<Box<dyn Error + Send + Sync>>>(what: &'static str) -> impl Fn(E) -> Self {
        move |error| Self { what, cause: Some(error.into()) }
    }

    /// What Redis could not tell, or would not.
    pub fn redis(what: &'static str) -> impl Fn(redis::Error) -> Self {
        Self::because(what)
    }
}
