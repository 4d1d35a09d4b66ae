//! The front end from outside: the real router and accept loop on a port of their own, and a daemon that does as told.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a helper that cannot go on has failed its test; messages are written where they are sent"
)]

mod world;

mod journeys;

mod contract;

mod cancelling;

mod streams;

mod changes;

mod secrets;

mod sessions;

mod artifacts;

mod batch;

mod economy;

mod files;

mod restoring;

mod issuer;
mod keys;
mod oauth;

mod ownership;

mod replicas;

mod leases;

mod fleet;
mod groups;

mod operators;

mod proxy;

mod wire;

mod limits;

mod directory;
mod ending;

mod stdio;

mod stores;

mod tasks;
