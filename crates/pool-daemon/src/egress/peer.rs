//! Who is at the other end of a connection on loopback.
//!
//! A gate lets out whatever comes in with the policy, and the upstream proxy's password, of one lease. Credentials of its
//! own would not do: Chromium takes none for a proxy from its command line, and answers a 407 only through its protocol's
//! request interception, which costs every request and does not reach workers. So the kernel is asked whose socket it is.
//! Chromium's network code runs in its main process (`NetworkServiceInProcess2`), which is the one we have started.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddrV4,
};

/// Whether the socket at `theirs`, connected to `ours`, is open in the process. Reads `/proc`, and may block for a
/// millisecond.
pub(super) fn belongs_to(pid: u32, theirs: SocketAddrV4, ours: SocketAddrV4) -> bool {
    let Some(inode) = inode(theirs, ours) else { return false };
    let socket = format!("socket:[{inode}]");
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))
}

/// The kernel's number of the socket that is connected from one address to the other.
fn inode(from: SocketAddrV4, to: SocketAddrV4) -> Option<u64> {
    let (from, to) = (shown(from), shown(to));
    let table = BufReader::new(File::open("/proc/self/net/tcp").ok()?);
    table.lines().map_while(Result::ok).find_map(|line| {
        // Number, local address, remote address, state, queues, timer, retransmissions, user, timeout, inode.
        let mut fields = line.split_ascii_whitespace().skip(1);
        (fields.next()? == from && fields.next()? == to).then(|| fields.nth(6)?.parse().ok())?
    })
}

/// An address as the kernel writes it: the bytes of the address as one number of this machine.
fn shown(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        let SocketAddr::V4(address) = address else { unreachable!("bound to IPv4") };
        address
    }

    #[test]
    fn a_socket_is_known_by_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, ours) = (v4(stream.local_addr().unwrap()), v4(stream.peer_addr().unwrap()));
        assert!(belongs_to(std::process::id(), theirs, ours));
        assert!(!belongs_to(1, theirs, ours), "another process");
        assert!(!belongs_to(std::process::id(), theirs, SocketAddrV4::new(*ours.ip(), 1)), "another connection");
        drop(stream);
        assert!(!belongs_to(std::process::id(), theirs, ours), "it has gone");
    }
}
