//! What a daemon and the front ends' store say to each other: where the daemon is and how it is ([`announce`]), and
//! which of its leases' sessions are over ([`reclaim`], decided in [`verdict`]).
//!
//! Nothing here decides about browsers while the store is silent: a store that is away ends no session.

mod announce;
mod reclaim;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::Arc;

use browserfleet_common::{
    checkpoint::Checkpoints,
    lifecycle::{Shutdown, Tasks},
    redis::{Directory, Error, Fitness, Redis, Sessions, Settings, checks::Need},
    secrets::Secrets,
};

use crate::pool::Handle;

/// Where checkpoints are kept: beside the sessions.
pub fn checkpoints(settings: &Settings) -> Checkpoints {
    let redis = Redis::new(settings.clone());
    Checkpoints::new(Arc::new(Sessions::new(redis.clone())), Secrets::of(&redis))
}

/// How front ends name a daemon in leases.
#[derive(Clone, Debug)]
pub enum Name {
    /// They find it there.
    Address(String),
    /// Only the one in this process reaches it; it also looks whether the store will do.
    Inside(String),
}

/// Starts talking with the store, until a hard shutdown. Answers whether it will do, once that is known.
pub fn start(settings: Settings, name: Name, handle: &Handle, tasks: &Tasks, shutdown: &Shutdown) -> Fitness {
    let redis = Redis::new(settings);
    let stop = shutdown.hard().clone();
    let fitness = Fitness::new(redis.clone(), Need::Memory);
    let name = match name {
        Name::Inside(name) => name,
        Name::Address(address) => {
            let directory = Directory::new(redis.clone());
            tasks.spawn("store.announce", announce::run(directory, address.clone(), handle.clone(), stop.clone()));
            let (fitness, stop) = (fitness.clone(), stop.clone());
            tasks.spawn("store.fitness", async move {
                tokio::select! {
                    () = fitness.find_out() => {}
                    () = stop.cancelled() => {}
                }
            });
            address
        }
    };
    let reclaimer = reclaim::Reclaimer::new(Sessions::new(redis), name, handle.clone());
    tasks.spawn("store.reclaim", reclaimer.run(stop));
    fitness
}

/// Says once that the store is away, and once that it is back.
#[derive(Debug, Default)]
struct Contact {
    lost: bool,
}

impl Contact {
    fn note<T>(&mut self, what: &'static str, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(answer) => {
                if std::mem::take(&mut self.lost) {
                    tracing::info!(what, "the store answers again");
                }
                Some(answer)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.lost, true) {
                    tracing::warn!(what, %error, "the store does not answer; everything stays as it is until it does");
                }
                None
            }
        }
    }
}
