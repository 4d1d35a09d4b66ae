//! Whether the Redis of a running program will do: found out when it first answers, which may be long after the start.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Redis,
    checks::{self, Findings, Need},
};

/// How often one that is away is looked at.
const AWAY: Duration = Duration::from_secs(1);
/// How often one that will not do is looked at again: somebody may mend it.
const UNFIT: Duration = Duration::from_secs(10);
/// How long whoever wants to know waits for the first look.
const FIRST: Duration = Duration::from_secs(1);

/// What is known of a Redis. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fitness {
    redis: Redis,
    need: Need,
    fit: Arc<watch::Sender<Option<bool>>>,
}

impl Fitness {
    pub fn new(redis: Redis, need: Need) -> Self {
        Self { redis, need, fit: Arc::default() }
    }

    /// Whether it has answered and will do. Waits for the first look, a second at most.
    pub async fn is_known_good(&self) -> bool {
        let mut fit = self.fit.subscribe();
        let looked = timeout(FIRST, fit.wait_for(Option::is_some)).await;
        matches!(looked, Ok(Ok(fit)) if *fit == Some(true))
    }

    /// Looks until it will do, and says in the log what is wrong.
    pub async fn find_out(&self) {
        let mut said = Findings::default();
        loop {
            let found = checks::look_at(&self.redis, self.need).await;
            tell(&said, &found);
            let fit = found.away.is_none() && found.problems.is_empty();
            self.fit.send_replace(Some(fit));
            if fit {
                return;
            }
            sleep(if found.away.is_some() { AWAY } else { UNFIT }).await;
            said = found;
        }
    }
}

/// Says what has not been said the last time.
fn tell(said: &Findings, found: &Findings) {
    for problem in found.problems.iter().filter(|problem| !said.problems.contains(problem)) {
        tracing::error!("{problem}");
    }
    for warning in found.warnings.iter().filter(|warning| !said.warnings.contains(warning)) {
        tracing::warn!("{warning}");
    }
    match (&said.away, &found.away) {
        (None, Some(away)) => tracing::warn!("{away} What it is will be looked at when it answers"),
        (Some(_), None) => tracing::info!("the store answers for the first time"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lifecycle::Tasks, redis::testing::Server};

    /// Waits until it is known to be so.
    async fn known(fitness: &Fitness, good: bool) {
        let known = fitness.fit.subscribe().wait_for(|fit| *fit == Some(good)).await.map(drop);
        timeout(Duration::from_secs(20), async { known }).await.expect("in time").expect("the sender is here");
    }

    #[tokio::test]
    async fn one_that_is_away_is_looked_at_when_it_answers() {
        let (tasks, mut server) = (Tasks::new(), Server::start().await);
        server.kill();
        let fitness = Fitness::new(server.client(), Need::Messages);
        let looking = fitness.clone();
        tasks.spawn("look", async move { looking.find_out().await });
        assert!(!fitness.is_known_good().await);
        server.restart().await;
        known(&fitness, true).await;
        assert_eq!(tasks.join(Duration::from_secs(5)).await, 0, "nothing is left to find out");
    }

    #[tokio::test]
    async fn one_that_will_not_do_is_not_called_good_until_it_is_mended() {
        let (tasks, server) = (Tasks::new(), Server::start().await);
        let set = async |name: &str, value: &str| {
            server.client().query::<()>(redis::cmd("CONFIG").arg("SET").arg(name).arg(value)).await.unwrap();
        };
        set("maxmemory", "100mb").await;
        set("maxmemory-policy", "allkeys-lru").await;
        let fitness = Fitness::new(server.client(), Need::Memory);
        let looking = fitness.clone();
        tasks.spawn("look", async move { looking.find_out().await });
        assert!(!fitness.is_known_good().await);
        set("maxmemory-policy", "noeviction").await;
        known(&fitness, true).await;
    }
}
