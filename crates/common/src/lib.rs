//! What front end and pool daemon both use; nothing that only one of them needs.
//!
//! In suggested reading order: the words ([`ids`], [`error_code`]), the wire ([`pb`]), who may say what on it ([`service`],
//! [`secret_file`], [`reloaded`], [`keyring`], [`authorities`], [`fetch`], [`secrets`]), then what a program is made of ([`config`], [`telemetry`], [`metrics`], [`lifecycle`], [`clock`],
//! [`size`], [`probe`]), what is kept of a session ([`session`], [`egress`],
//! [`artifact`], [`checkpoint`]), and where ([`redis`], [`unavailable`]).

pub mod ids;

pub mod error_code;

pub mod pb;

pub mod service;

pub mod secret_file;

pub mod reloaded;

pub mod keyring;

pub mod authorities;

pub mod fetch;

pub mod secrets;

pub mod config;

#[cfg(feature = "test-util")]
pub mod fuzz;

pub mod telemetry;

pub mod metrics;

pub mod lifecycle;

pub mod probe;

pub mod clock;

pub mod size;

pub mod egress;

pub mod session;

pub mod artifact;

pub mod checkpoint;

pub mod redis;

pub mod unavailable;
