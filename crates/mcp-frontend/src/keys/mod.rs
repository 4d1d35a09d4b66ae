//! API keys: who may call, and what they may do.
//!
//! [`secret`] makes and reads keys, [`record`] is what is kept of one, [`file`] where, [`ring`] what a running front end asks;
//! [`command`] is what operators type.

mod secret;

mod record;

mod file;

mod ring;

pub mod command;

pub use self::{
    record::{Limits, Origins, Record},
    ring::Keyring,
};
