//! How daemons are named and reached.

use std::time::Duration;

use browserfleet_common::service::ServiceSecret;
use tonic::transport::{Channel, Endpoint};

/// How soon a connection to a daemon that says nothing is given up. Both ends look: a partition is noticed within
/// `keep_alive` + `answer`, also on a connection that is idle.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// For making a connection.
    pub connect: Duration,
    /// After this time without a word a ping is sent.
    pub keep_alive: Duration,
    /// How long its answer may take.
    pub answer: Duration,
}

impl Default for Wire {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self { connect: Duration::from_secs(2), keep_alive: ten, answer: ten }
    }
}

/// The daemons a front end may use: each with the name that [`LeaseRef::daemon`](crate::session::LeaseRef) gives it, the
/// same in all front ends.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    pub(super) daemons: Vec<(String, Channel)>,
    pub(super) secret: Option<ServiceSecret>,
}

impl Pools {
    /// Adds a daemon that is reached over a channel of its own kind.
    #[must_use]
    pub fn and(mut self, name: impl Into<String>, channel: Channel) -> Self {
        self.daemons.push((name.into(), channel));
        self
    }

    /// The secret that the daemons share with us: what is said to them of callers is signed with it.
    #[must_use]
    pub fn trusting(self, secret: Option<ServiceSecret>) -> Self {
        Self { secret, ..self }
    }

    /// Adds a daemon at an address, which is also its name. Connections are made when they are needed.
    #[must_use]
    pub fn at(self, address: Endpoint, wire: Wire) -> Self {
        let name = address.uri().to_string();
        let watched = address
            .connect_timeout(wire.connect)
            .http2_keep_alive_interval(wire.keep_alive)
            .keep_alive_timeout(wire.answer)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        self.and(name, watched.connect_lazy())
    }
}

/// The one daemon of a program that has it inside.
impl From<Channel> for Pools {
    fn from(channel: Channel) -> Self {
        Self::default().and("local", channel)
    }
}
