//! A listener that is about to close lets in nobody else. Between the last accept and the close the kernel would still finish
//! handshakes, and then reset those connections with whatever was sent over them.

use std::io;

use socket2::{SockFilter, SockRef};
use tokio::net::TcpListener;

/// Where the flags are in a TCP header; there is nothing before it in what a filter of a TCP socket sees.
const FLAGS: u32 = 13;
const SYN: u32 = 0x02;

/// Classic BPF, as in `linux/bpf_common.h`: load a byte from a fixed place, jump if one of these bits is set, return.
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Drop, or keep all of it.
const DROP: u32 = 0;
const KEEP: u32 = u32::MAX;

/// From here on the kernel ignores whoever asks for a connection, and finishes the handshakes it has begun. Whoever was
/// ignored asks again after a second, and is refused if the listener is closed by then: connecting has failed, and may be
/// tried elsewhere.
///
/// # Errors
/// When the kernel knows no filters.
pub(super) fn shut_out(listener: &TcpListener) -> io::Result<()> {
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, DROP),
        SockFilter::new(RETURN, 0, 0, KEEP),
    ])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{net::TcpStream, time::timeout};

    use super::*;

    /// Longer than anything takes here but the second after which a client asks again.
    const SHORTLY: Duration = Duration::from_millis(300);
    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn newcomers_wait_and_are_refused_once_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let early = TcpStream::connect(address).await.unwrap();
        shut_out(&listener).unwrap();
        let mut late = Box::pin(TcpStream::connect(address));
        assert!(timeout(SHORTLY, &mut late).await.is_err(), "nobody else is let in");
        let (accepted, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        assert_eq!(accepted.peer_addr().unwrap(), early.local_addr().unwrap());
        drop(listener);
        let refused = timeout(LIMIT, late).await.expect("asked again").expect_err("closed by then");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
