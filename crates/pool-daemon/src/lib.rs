//! The pool daemon: owns Chromium processes, leases them over gRPC and runs tools in their pages.
//!
//! In reading order: [`pool`] decides who gets a browser, [`chromium`] starts and ends its process tree, [`launcher`] joins
//! the two, [`health`] watches what runs and [`host`] the machine below; [`page`] is what a browser shows, [`workspace`] orders a lease's calls, [`recorders`] has what is recorded of them, [`tools`] are what agents call,
//! [`checkpoint`] gives a session another browser;
//! [`grpc`] and [`admin`] are the doors, [`config`] the settings, [`app`] the whole.

pub mod pool;
pub mod secrets;
pub mod store;

pub mod chromium;
pub mod egress;
pub mod health;
pub mod host;
pub mod launcher;

pub mod checkpoint;
pub mod failure;
pub mod page;
pub mod recorders;
pub mod storage_state;
pub mod tools;
pub mod workspace;

pub mod admin;
pub mod grpc;

pub mod app;
pub mod config;

#[cfg(any(test, feature = "test-util"))]
pub mod testing;
