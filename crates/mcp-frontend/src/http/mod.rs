//! HTTP: the accept loop and what guards it, routing, and what operators look at.
//!
//! A connection is accepted in [`server`], the last ones with [`newcomers`] shut out, served in [`conversation`], over [`tls`]
//! where there is a certificate, and watched by [`watch`]; a request passes
//! [`guard`] and [`auth`] and goes where [`router`] says; [`body`] reads its body.

pub(crate) mod server;

mod newcomers;

mod conversation;

pub(crate) mod tls;

mod watch;

pub(crate) mod router;

mod guard;

pub(crate) mod auth;

mod artifacts;

mod calls;

pub(crate) mod body;

mod health;

mod pool;

mod metadata;

mod sessions;
