//! A network namespace for each browser, where the system lets us make one: the browser then has no network but a loopback of its
//! own, and no packet of it reaches anybody, whatever takes it over.
//!
//! A socket belongs to the namespace that it was made in, whoever holds it. So the child makes the one that its egress gate
//! listens on, inside, and hands it to us before it becomes the browser. No program stands between the two, and nothing of the
//! machine can be reached from inside, abstract Unix sockets included.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    os::fd::{AsFd as _, OwnedFd},
};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::{
    AddressFamily as Family, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
        LinkMessage,
    },
};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::prctl,
    unistd::{Uid, getegid, geteuid},
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, bind, listen, recv, recvmsg, send, sendmsg, socket_with, socketpair,
};

use super::trial;

/// The namespace's own loopback, as the kernel numbers it.
const LOOPBACK: u32 = 1;
/// The two ends of a cable that leads from the namespace to itself. With loopback alone Chromium believes that it is offline,
/// and tells pages so.
const CABLE: [(u32, &str); 2] = [(2, "net0"), (3, "net1")];
/// What the cable's end is called: an address of documentation (RFC 5737), at which nobody can be.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Connections to the gate that wait to be taken.
const BACKLOG: i32 = 1024;
/// The answer to a request about IPv6 where there is none.
const NO_IPV6: i32 = -(Errno::EAFNOSUPPORT as i32);
/// Of an answer of the kernel's: what was wrong is behind the header.
const ERROR: std::ops::Range<usize> = 16..20;

/// What a child needs to enter a namespace of its own.
#[derive(Debug)]
pub(super) struct Namespace {
    /// Asked of the kernel one after the other.
    requests: Vec<Vec<u8>>,
    /// Inside, it is who it is outside.
    users: String,
    groups: String,
    /// Where its gate listens.
    port: u16,
    /// Takes the listening socket.
    out: OwnedFd,
}

/// Our end: gives the listening socket once the child has entered.
#[derive(Debug)]
pub(super) struct Listening(OwnedFd);

impl Namespace {
    /// For a child that will be `uid`, or the user we are.
    pub(super) fn plan(uid: Option<Uid>, port: u16) -> io::Result<(Self, Listening)> {
        let (ours, out) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (user, group) = uid.map_or((geteuid().as_raw(), getegid().as_raw()), |uid| (uid.as_raw(), uid.as_raw()));
        let same = |id: u32| format!("{id} {id} 1");
        let requests = requests();
        Ok((Self { requests, users: same(user), groups: same(group), port, out }, Listening(ours)))
    }

    /// Makes the namespace the child's own, with all that is in it. It takes no lock and allocates nothing.
    ///
    /// # Errors
    /// Where the system does not allow it; see [`why`].
    pub(super) fn enter(&self) -> io::Result<()> {
        // A user namespace first: in it, nobody needs a right to make the other.
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
        // A process that changes its user is nobody's to look at, nor are its own files in /proc its own.
        prctl::set_dumpable(true)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", &self.users)?;
        fs::write("/proc/self/gid_map", &self.groups)?;
        self.connect()?;
        self.listen()
    }

    fn connect(&self) -> io::Result<()> {
        // Without a protocol it is that of links and addresses, which has the number 0.
        let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        for request in &self.requests {
            send(&kernel, request, SendFlags::empty())?;
            // It answers before `send` returns, with an error that may be none.
            let mut answer = [0; 256];
            recv(&kernel, &mut answer[..], RecvFlags::DONTWAIT)?;
            let mut number = [0; 4];
            number.copy_from_slice(&answer[ERROR]);
            match i32::from_ne_bytes(number) {
                // Without IPv6 there is nothing of it to be quietened.
                0 | NO_IPV6 => {}
                error => return Err(io::Error::from_raw_os_error(error.saturating_neg())),
            }
        }
        Ok(())
    }

    fn listen(&self) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        // Every address: each gate has one of its own, and nobody else is here.
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, self.port))?;
        listen(&socket, BACKLOG)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let handed = [socket.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&handed));
        sendmsg(&self.out, &[IoSlice::new(b".")], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl Listening {
    /// The socket, as the child has made it.
    ///
    /// # Errors
    /// When it has made none.
    pub(super) fn take(self) -> io::Result<TcpListener> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        recvmsg(&self.0, &mut [IoSliceMut::new(&mut [0])], &mut control, flags)?;
        let mut handed = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        handed
            .next()
            .and_then(|mut sockets| sockets.next())
            .map(TcpListener::from)
            .ok_or(io::ErrorKind::NotFound.into())
    }
}

/// Tries whether children may have namespaces: a child enters one, and is no more.
///
/// # Errors
/// What is missing.
#[expect(unsafe_code, reason = "runs between fork and exec")]
pub(super) fn probe(uid: Option<Uid>) -> Result<(), String> {
    let (namespace, listening) = Namespace::plan(uid, 1).map_err(|error| error.to_string())?;
    // SAFETY: entering takes no lock and allocates nothing.
    match unsafe { trial::in_child(uid, move || namespace.enter()) } {
        Ok(()) => listening.take().map(drop).map_err(|error| error.to_string()),
        Err(error) => Err(error.raw_os_error().map_or_else(|| error.to_string(), |errno| why(Errno::from_raw(errno)))),
    }
}

/// What is missing where a child cannot enter.
pub(super) fn why(error: Errno) -> String {
    let missing = match error {
        Errno::EPERM | Errno::EACCES => "user namespaces are not allowed, or give no rights over networks (AppArmor)",
        Errno::EOPNOTSUPP => "the kernel has no veth devices",
        Errno::ENOSPC | Errno::EUSERS => "user.max_user_namespaces or user.max_net_namespaces is reached",
        Errno::EINVAL => "the kernel has no user or network namespaces",
        _ => "a child cannot enter one",
    };
    format!("{missing} ({error})")
}

/// A cable; its address; everything up. Neither end of a cable can be up before the other is there. With addresses of IPv6, which
/// the kernel gives them a second or two later, the network would change: Chromium then fails the requests that it has running.
fn requests() -> Vec<Vec<u8>> {
    let [near, far] = CABLE.map(|(index, name)| {
        let mut end = LinkMessage::default();
        end.header.index = index;
        end.attributes.push(LinkAttribute::IfName(name.to_owned()));
        end
    });
    let mut cable = near;
    let peer = InfoData::Veth(InfoVeth::Peer(far));
    cable.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(peer)]));
    let mut address = AddressMessage::default();
    address.header.family = Family::Inet;
    // Nothing but itself is behind it.
    address.header.prefix_len = 32;
    address.header.index = CABLE[0].0;
    address.attributes = vec![AddressAttribute::Local(ADDRESS.into()), AddressAttribute::Address(ADDRESS.into())];
    let quiet = CABLE.map(|(index, _)| {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        link.attributes.push(LinkAttribute::AfSpecUnspec(vec![none]));
        request(RouteNetlinkMessage::SetLink(link), 0)
    });
    let up = [LOOPBACK, CABLE[0].0, CABLE[1].0].map(|index| {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        request(RouteNetlinkMessage::SetLink(link), 0)
    });
    let made = [RouteNetlinkMessage::NewLink(cable), RouteNetlinkMessage::NewAddress(address)];
    let made = made.map(|made| request(made, NLM_F_CREATE | NLM_F_EXCL));
    made.into_iter().chain(quiet).chain(up).collect()
}

fn request(what: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut message = NetlinkMessage::from(what);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
