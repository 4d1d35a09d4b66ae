//! API keys: who may call, and what they may do.
//!
//! [`secret`] makes and reads keys, [`record`] is what is kept of one, [`file`] where, [`api_keys`] what a running front end asks;
//! [`command`] is what operators type.

mod secret;

mod record;

mod file;

mod api_keys;

pub mod command;

pub(crate) use self::secret::{PREFIX as KEY_PREFIX, is_id as is_key_id};
pub use self::{
    api_keys::ApiKeys,
    record::{Origins, Record},
};
pub use crate::limits::Limits;
