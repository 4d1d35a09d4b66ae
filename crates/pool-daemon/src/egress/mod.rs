//! The way out of a browser: a proxy of its own, which decides about every connection outside the page's reach.
//!
//! What Chromium can be told over its protocol (blocked URLs, intercepted requests) leaks: web sockets, prefetches and
//! workers went around it. So each browser, or each context of a shared one, has a [`Gate`]: a proxy that serves this browser
//! only ([`entrance`]). The browser is started with flags that leave it no other way and, where the system allows it, in a
//! network in which there is no other. A gate reads where a request goes ([`target`]), asks the [`policy`] of the lease,
//! resolves the name itself ([`resolve`]), asks again about every address ([`classify`]) and connects to one of those it
//! asked about ([`connect`]): between check and use nothing is looked up again. A redirect is another request. What is
//! refused gets no answer that a page could read; why it was refused is remembered ([`verdicts`]) and becomes the tool's
//! error.
//!
//! In suggested reading order:

pub mod target;

pub mod classify;
pub mod policy;

mod connect;
mod entrance;
pub mod resolve;
mod upstream;

#[cfg(feature = "test-util")]
pub mod fuzz;
mod gate;
mod peer;
mod serve;
#[cfg(test)]
mod tests;
mod verdicts;
mod watched;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use browserfleet_common::lifecycle::Tasks;

pub use entrance::Entrance;
pub use gate::Gate;
pub use policy::{Blocked, Network, Opened};
pub use target::Target;
pub use verdicts::Refusal;

use policy::Policy;
use resolve::{Resolve, Share};

/// `[egress]`: how far browsers may go.
#[derive(Clone, Debug)]
pub struct Config {
    pub network: Network,
    /// Open whatever `network` says.
    pub allow: Vec<Opened>,
    /// Who knows the addresses of names. The system, but for tests.
    pub resolver: Arc<dyn Resolve>,
}

/// What all gates of a daemon share, and a gate's part of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Exits {
    inner: Arc<Inner>,
    look_ups: Share,
}

#[derive(Debug)]
struct Inner {
    network: Network,
    opened: Arc<[Opened]>,
    resolver: Arc<dyn Resolve>,
    tasks: Tasks,
    /// The ports of all gates on the machine's loopback: no browser may use another's. Held only to read or change the set.
    gates: Mutex<HashSet<u16>>,
}

impl Exits {
    pub fn new(config: Config, tasks: &Tasks) -> Self {
        let Config { network, allow, resolver } = config;
        let inner = Inner { network, opened: allow.into(), resolver, tasks: tasks.clone(), gates: Mutex::default() };
        Self { inner: Arc::new(inner), look_ups: Share::default() }
    }

    /// As a new gate uses them.
    fn of_a_gate(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), look_ups: Share::default() }
    }

    /// What a lease may reach that asks for these.
    fn policy(&self, rules: browserfleet_common::egress::EgressRules) -> Policy {
        Policy::new(self.inner.network, Arc::clone(&self.inner.opened), rules)
    }

    fn gates(&self) -> MutexGuard<'_, HashSet<u16>> {
        self.inner.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
