//! The machine below the browsers: what it has, what is left of it, and whether that will do.
//!
//! [`memory`] measures browsers, [`cgroup`] finds the limits we run under, [`pressure`] watches how close they are;
//! [`checks`] says before a start what will not work, [`doctor`] says it to people.

pub mod cgroup;
pub mod checks;
pub mod doctor;
pub mod memory;
pub mod pressure;
