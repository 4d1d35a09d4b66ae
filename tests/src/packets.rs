//! Every packet of this network namespace, as a raw socket sees it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt},
        time::{TimeVal, TimeValLike as _},
    },
};
use tokio::sync::watch;

const ICMP_V6: u8 = 58;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where a packet went.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    pub protocol: u8,
    pub to: IpAddr,
    /// 0 of what has none.
    pub port: u16,
}

impl Packet {
    pub fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }

    /// Reads an IP packet. What the kernel says to itself about groups and neighbours is none.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (protocol, to, payload) = match bytes.first()? >> 4 {
            4 => {
                let to: [u8; 4] = bytes.get(16..20)?.try_into().ok()?;
                (*bytes.get(9)?, IpAddr::from(Ipv4Addr::from(to)), usize::from(bytes[0] & 15) * 4)
            }
            6 => {
                let to: [u8; 16] = bytes.get(24..40)?.try_into().ok()?;
                (*bytes.get(6)?, IpAddr::from(Ipv6Addr::from(to)), 40)
            }
            _ => return None,
        };
        let has_port = protocol == TCP || protocol == UDP;
        let port = if has_port { u16::from_be_bytes(bytes.get(payload + 2..payload + 4)?.try_into().ok()?) } else { 0 };
        // Multicast listener reports travel behind a hop-by-hop header, which is number 0.
        (![ICMP_V6, IGMP, 0].contains(&protocol)).then_some(Self { protocol, to, port })
    }
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Packets {
    seen: Arc<watch::Sender<BTreeSet<Packet>>>,
    stop: Arc<AtomicBool>,
}

impl Drop for Packets {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Packets {
    /// Starts watching every interface. Needs `CAP_NET_RAW`.
    pub fn watch() -> anyhow::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100))?;
        // So many packets fit that none is lost while this thread waits for its turn.
        setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20))?;
        let packets = Self { seen: Arc::default(), stop: Arc::default() };
        let (seen, stop) = (Arc::clone(&packets.seen), Arc::clone(&packets.stop));
        thread::Builder::new().name("packets".to_owned()).spawn(move || read(&socket, &seen, &stop))?;
        Ok(packets)
    }

    /// The packets seen since the last [`Self::forget`], each kind once.
    pub fn seen(&self) -> BTreeSet<Packet> {
        self.seen.borrow().clone()
    }

    pub fn forget(&self) {
        self.seen.send_modify(BTreeSet::clear);
    }

    /// Waits until what was seen is enough.
    pub async fn until(&self, enough: impl Fn(&BTreeSet<Packet>) -> bool) {
        let mut seen = self.seen.subscribe();
        // The sending end is ours: it is there as long as we are.
        let _never_closed = seen.wait_for(|seen| enough(seen)).await;
    }
}

fn read(socket: &OwnedFd, seen: &watch::Sender<BTreeSet<Packet>>, stop: &AtomicBool) {
    let mut buffer = [0; 128];
    while !stop.load(Ordering::Relaxed) {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => {
                if let Some(packet) = Packet::read(&buffer[..length]) {
                    seen.send_if_modified(|seen| seen.insert(packet));
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_ended) => return,
        }
    }
}
