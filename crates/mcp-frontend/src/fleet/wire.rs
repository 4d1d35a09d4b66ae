//! How daemons are named and reached.

use std::time::Duration;

use browserfleet_common::{redis::Directory, service::ServiceSecret, session::daemon_name};
use tonic::{
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::{BoxError, Service, ServiceExt as _, util::BoxCloneSyncService};

/// What takes the requests for a daemon: a connection to it, or in one process its services themselves.
pub(crate) type Door = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, DoorError>;

/// Why a request did not get through. tonic reads the status from the sources.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DoorError(#[source] BoxError);

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

impl Wire {
    /// A connection that is made when it is needed.
    fn connect(self, address: Endpoint) -> Channel {
        address
            .connect_timeout(self.connect)
            .http2_keep_alive_interval(self.keep_alive)
            .keep_alive_timeout(self.answer)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect_lazy()
    }

    /// The way to a daemon of the directory. `None`: that is no address.
    pub(super) fn door(self, address: &str) -> Option<Door> {
        let channel = self.connect(Endpoint::from_shared(address.to_owned()).ok()?);
        Some(BoxCloneSyncService::new(channel.map_err(|error| DoorError(error.into()))))
    }
}

/// The daemons a front end may use: each with the name that [`LeaseRef::daemon`](crate::session::LeaseRef) gives it, the
/// same in all front ends.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    pub(super) daemons: Vec<(String, Door)>,
    pub(super) directory: Option<(Directory, Wire)>,
    pub(super) secret: Option<ServiceSecret>,
}

impl Pools {
    /// Adds a daemon that is reached in a way of its own.
    #[must_use]
    pub fn and<S>(mut self, name: impl Into<String>, door: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        self.daemons.push((name.into(), BoxCloneSyncService::new(door.map_err(|error| DoorError(error.into())))));
        self
    }

    /// Whether nothing has been said of where they are.
    pub(crate) fn is_empty(&self) -> bool {
        self.daemons.is_empty() && self.directory.is_none()
    }

    /// The secret that the daemons share with us: what is said to them of callers is signed with it.
    #[must_use]
    pub fn trusting(self, secret: Option<ServiceSecret>) -> Self {
        Self { secret, ..self }
    }

    /// The one daemon of a program that has it inside, by its
    /// [`inside_name`](browserfleet_common::session::inside_name).
    pub fn inside<S>(name: impl Into<String>, door: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self::default().and(name, door)
    }

    /// Adds a daemon at an address, which is also its name: the one by which it announces itself. Connections are made
    /// when they are needed.
    #[must_use]
    pub fn at(self, address: Endpoint, wire: Wire) -> Self {
        let name = daemon_name(&address.uri().to_string());
        self.and(name, wire.connect(address))
    }

    /// Those that are in a directory, as they come and go. Their names are their addresses.
    #[must_use]
    pub fn found_in(self, directory: Directory, wire: Wire) -> Self {
        Self { directory: Some((directory, wire)), ..self }
    }
}
