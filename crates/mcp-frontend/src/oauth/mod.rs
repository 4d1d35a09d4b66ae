//! Access tokens of OAuth 2.1 beside the API keys: this server is a resource server, somebody else issues the tokens.
//!
//! [`settings`] says whose tokens are good, [`resource`] tells clients where to get one, [`token`] reads one ([`claims`] is what it
//! says, [`scopes`] what that allows here, [`signature`] who wrote it); [`issuer`] has the issuer's keys ([`jwks`]), which [`fetch`]
//! reads from it.

mod settings;

mod resource;

mod scopes;

mod token;

mod claims;

mod signature;

mod issuer;

mod jwks;

mod fetch;

pub use self::settings::Settings;
pub(crate) use self::{
    issuer::Issuer,
    resource::{Resource, WELL_KNOWN},
    token::Rejected,
};
