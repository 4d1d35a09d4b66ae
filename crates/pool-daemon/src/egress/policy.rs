//! What a browser may reach: the daemon's settings, and within them what its session asked for. Decisions only.

use std::{net::IpAddr, sync::Arc};

use browserfleet_common::egress::{EgressRules, Origin, OriginRules, ProxyServer};
use ipnet::IpNet;
use url::Host;

use super::{
    classify::{self, Class},
    target::Target,
};

/// Ports that are open in a public network.
const PUBLIC_PORTS: [u16; 2] = [80, 443];

/// How far browsers may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Wherever this machine can: for developers, whose pages are on it. Not to a cloud's credentials.
    Local,
    /// To public addresses, at the ports of the web.
    Public,
}

/// `egress.allow`: something that is open whatever [`Network`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Hosts by name, wherever they lead.
    Host(Origin),
    /// Addresses, whatever leads there.
    Net(IpNet, Option<u16>),
}

impl Opened {
    /// Reads a host (`intranet.example`, `*.example`), an address or a network (`10.1.0.0/16`), each with a `:port` or
    /// without; IPv6 with a port in brackets.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let net = |text: &str| {
            let text = text.trim_start_matches('[').trim_end_matches(']');
            text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        };
        if let Some(net) = net(text) {
            return Ok(Self::Net(net, None));
        }
        if let Some((address, port)) = text.rsplit_once(':')
            && let (Some(net), Ok(port)) = (net(address), port.parse())
        {
            return Ok(Self::Net(net, Some(port)));
        }
        Origin::parse(text).map(Self::Host).map_err(|_not_an_origin| {
            format!("{text:?} is no host, address or network, such as intranet.example:8080, 10.1.2.3 or 10.1.0.0/16")
        })
    }
}

/// Why something is not reached, for the agent: what was refused, and who could change it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    #[error("{target} is not among the {}", whose.allowed())]
    NotAllowed { target: Target, whose: Whose },
    #[error("{target} is among the {}", whose.blocked())]
    Unwanted { target: Target, whose: Whose },
    #[error(
        "{target} is at port {}: browsers here reach ports 80 and 443 only; the operator opens others with egress.allow",
        target.port
    )]
    Port { target: Target },
    #[error("{target} is {}: {}", class.described(), remedy(*class))]
    Place { target: Target, class: Class },
    #[error("{target} leads to {address}, {}: {}", class.described(), remedy(*class))]
    Leads { target: Target, address: IpAddr, class: Class },
    #[error("{target} is a door of this service itself")]
    Own { target: Target },
    #[error("nobody has leased this browser")]
    Unleased,
}

/// Whose list of origins it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Session,
    Key,
}

impl Whose {
    fn allowed(self) -> &'static str {
        match self {
            Self::Session => "allowed_origins this session was opened with",
            Self::Key => "origins that your API key allows",
        }
    }

    fn blocked(self) -> &'static str {
        match self {
            Self::Session => "blocked_origins this session was opened with",
            Self::Key => "origins that your API key blocks",
        }
    }
}

fn remedy(class: Class) -> &'static str {
    match class {
        Class::Metadata => "it hands out credentials of this machine; the operator opens it with egress.allow",
        _ => "browsers here reach public addresses only; the operator opens others with egress.allow",
    }
}

/// What one lease may reach.
#[derive(Clone, Debug)]
pub struct Policy {
    network: Network,
    opened: Arc<[Opened]>,
    rules: EgressRules,
    leased: bool,
}

impl Policy {
    pub fn new(network: Network, opened: Arc<[Opened]>, rules: EgressRules) -> Self {
        Self { network, opened, rules, leased: true }
    }

    /// Of a browser nobody has leased: nothing.
    pub fn nothing() -> Self {
        Self { network: Network::Public, opened: Arc::new([]), rules: EgressRules::default(), leased: false }
    }

    /// The proxy everything goes through.
    pub fn upstream(&self) -> Option<&ProxyServer> {
        self.rules.upstream.as_ref()
    }

    /// Whether a place may be asked for, as far as its name tells.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, target: &Target) -> Result<(), Blocked> {
        if !self.leased {
            return Err(Blocked::Unleased);
        }
        admit_origin(&self.rules.key, Whose::Key, target)?;
        admit_origin(&self.rules.session, Whose::Session, target)?;
        let class = match &target.host {
            Host::Domain(name) => classify::name(name),
            Host::Ipv4(address) => return self.admit_address(target, (*address).into()),
            Host::Ipv6(address) => return self.admit_address(target, (*address).into()),
        };
        match class {
            Some(class) if self.is_closed(class) && !self.opens_name(target) => {
                Err(Blocked::Place { target: target.clone(), class })
            }
            _ if !self.may_have_port(target) => Err(Blocked::Port { target: target.clone() }),
            _ => Ok(()),
        }
    }

    /// Whether an address that a name has led to may be connected to.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_address(&self, target: &Target, address: IpAddr) -> Result<(), Blocked> {
        // A blocked address stays one, by whatever name or spelling it is reached.
        let written = address.to_canonical().to_string();
        for (rules, whose) in [(&self.rules.key, Whose::Key), (&self.rules.session, Whose::Session)] {
            if among(&rules.blocked, &written, target.port) {
                return Err(Blocked::Unwanted { target: target.clone(), whose });
            }
        }
        let class = classify::address(address);
        if self.opens_name(target) || self.opens_address(address, target.port) {
            return Ok(());
        }
        if self.is_closed(class) {
            let target = target.clone();
            return Err(match target.host {
                Host::Domain(_) => Blocked::Leads { target, address, class },
                _ => Blocked::Place { target, class },
            });
        }
        if self.network == Network::Public && !PUBLIC_PORTS.contains(&target.port) {
            return Err(Blocked::Port { target: target.clone() });
        }
        Ok(())
    }

    /// Whether the session's own proxy may be used at all: it sees what its pages send. What the session asks for its pages
    /// does not concern it.
    ///
    /// # Errors
    /// When the owner's key does not lead there.
    pub fn admit_proxy(&self, proxy: &Target) -> Result<(), Blocked> {
        admit_origin(&self.rules.key, Whose::Key, proxy)
    }

    /// Whether the address of the session's own proxy may be connected to, at whatever port it is.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_upstream(&self, target: &Target, address: IpAddr) -> Result<(), Blocked> {
        match self.admit_address(target, address) {
            Err(Blocked::Port { .. }) => Ok(()),
            other => other,
        }
    }

    fn is_closed(&self, class: Class) -> bool {
        match self.network {
            Network::Local => class == Class::Metadata,
            Network::Public => class != Class::Public,
        }
    }

    /// A name's port. The addresses a name leads to may still be opened by `egress.allow`, so some network there with this
    /// port is enough for now.
    fn may_have_port(&self, target: &Target) -> bool {
        let opened =
            |opened: &Opened| matches!(opened, Opened::Net(_, port) if port.is_none_or(|port| port == target.port));
        self.network == Network::Local
            || PUBLIC_PORTS.contains(&target.port)
            || self.opens_name(target)
            || self.opened.iter().any(opened)
    }

    fn opens_name(&self, target: &Target) -> bool {
        let host = target.host.to_string();
        self.opened.iter().any(|opened| matches!(opened, Opened::Host(origin) if origin.matches(&host, target.port)))
    }

    fn opens_address(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        let opens = |opened: &Opened| match opened {
            Opened::Net(net, only) => net.contains(&address) && only.is_none_or(|only| only == port),
            Opened::Host(_) => false,
        };
        self.opened.iter().any(opens)
    }
}

fn admit_origin(rules: &OriginRules, whose: Whose, target: &Target) -> Result<(), Blocked> {
    let host = target.host.to_string();
    if among(&rules.blocked, &host, target.port) {
        return Err(Blocked::Unwanted { target: target.clone(), whose });
    }
    if !rules.allowed.is_empty() && !among(&rules.allowed, &host, target.port) {
        return Err(Blocked::NotAllowed { target: target.clone(), whose });
    }
    Ok(())
}

fn among(origins: &[Origin], host: &str, port: u16) -> bool {
    origins.iter().any(|origin| origin.matches(host, port))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
