//! Resolve, check, and connect to what was checked.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
};

use tokio::{
    net::TcpStream,
    time::{Duration, Instant, timeout_at},
};
use url::Host;

use super::{
    Exits, Refusal,
    classify::{self, Class},
    policy::{Blocked, Policy},
    target::Target,
};

/// Most time for a connection, whatever the number of addresses.
const CONNECT: Duration = Duration::from_secs(10);
/// Most time for one address, when there are others.
const ONE_OF_MANY: Duration = Duration::from_secs(3);
/// Most addresses of a name that are tried.
const ADDRESSES: usize = 8;

impl Exits {
    /// A connection to the target itself.
    pub(super) async fn reach(&self, policy: &Policy, target: &Target) -> Result<TcpStream, Refusal> {
        policy.admit(target)?;
        let addresses = self.addresses(target).await?;
        // One bad address among good ones is how rebinding looks: then none is used.
        for &address in &addresses {
            policy.admit_address(target, address)?;
            self.refuse_own(target, address)?;
        }
        connect(&addresses, target.port).await
    }

    /// A connection to the session's own proxy.
    pub(super) async fn reach_upstream(&self, policy: &Policy, upstream: &Target) -> Result<TcpStream, Refusal> {
        policy.admit_proxy(upstream)?;
        let addresses = self.addresses(upstream).await.map_err(|_none| unavailable("its name has no address"))?;
        for &address in &addresses {
            policy.admit_upstream(upstream, address)?;
            self.refuse_own(upstream, address)?;
        }
        connect(&addresses, upstream.port).await.map_err(|refusal| match refusal {
            Refusal::TimedOut => unavailable("does not answer"),
            _ => unavailable("cannot be connected to"),
        })
    }

    async fn addresses(&self, target: &Target) -> Result<Vec<IpAddr>, Refusal> {
        let mut addresses = match &target.host {
            Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            Host::Ipv6(address) => vec![IpAddr::V6(*address)],
            // By definition, whatever a name server says.
            Host::Domain(name) if classify::name(name) == Some(Class::Loopback) => {
                vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]
            }
            Host::Domain(name) => self.inner.resolver.resolve(name, &self.look_ups).await,
        };
        addresses.truncate(ADDRESSES);
        if addresses.is_empty() { Err(Refusal::Unresolved) } else { Ok(addresses) }
    }

    /// A gate serves its own browser only; that its port is not even tried keeps one tenant's page from another's gate.
    fn refuse_own(&self, target: &Target, address: IpAddr) -> Result<(), Blocked> {
        let here = matches!(classify::address(address), Class::Loopback | Class::Unspecified);
        if here && self.gates().contains(&target.port) {
            return Err(Blocked::Own { target: target.clone() });
        }
        Ok(())
    }
}

async fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, Refusal> {
    let deadline = Instant::now() + CONNECT;
    let mut refusal = Refusal::Unreachable;
    for (index, &address) in addresses.iter().enumerate() {
        let last = index + 1 == addresses.len();
        let until = if last { deadline } else { deadline.min(Instant::now() + ONE_OF_MANY) };
        match timeout_at(until, TcpStream::connect(SocketAddr::new(address, port))).await {
            Ok(Ok(stream)) => {
                // It only costs speed if it does not work.
                let _as_before = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => {
                refusal = match error.kind() {
                    ErrorKind::ConnectionRefused => Refusal::Refused,
                    ErrorKind::ConnectionReset => Refusal::Reset,
                    ErrorKind::TimedOut => Refusal::TimedOut,
                    _ => Refusal::Unreachable,
                };
            }
            Err(_elapsed) => refusal = Refusal::TimedOut,
        }
    }
    Err(refusal)
}

pub(super) fn unavailable(what: &str) -> Refusal {
    Refusal::Upstream(what.to_owned())
}
