//! Asking a program of ours that runs here how it is: the health check of containers, which have neither shell nor curl.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// For the connection, for each write and for each read. Probes are given a few seconds by whoever starts them.
const PATIENCE: Duration = Duration::from_secs(2);
/// As much of an answer as its first line takes.
const LINE_MAX: u64 = 256;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Question {
    /// Does it live? Whatever it needs may be away.
    Health,
    /// Would it take new work now?
    Ready,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Health => "/health",
            Self::Ready => "/ready",
        })
    }
}

/// Why the answer is no.
#[derive(Debug, thiserror::Error)]
pub enum No {
    #[error("nobody answers at {address}")]
    Silent { address: SocketAddr, source: io::Error },
    #[error("{address}{question} answers {answer:?}")]
    Refused { address: SocketAddr, question: Question, answer: String },
}

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub struct Door<'a> {
    pub listen: SocketAddr,
    /// The name it answers to.
    pub host: &'a str,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// Asks a program.
///
/// # Errors
/// When it does not answer in time, or says no.
pub fn ask(question: Question, door: Door<'_>) -> Result<(), No> {
    let address = near(door.listen);
    let answer = answer(question, address, door).map_err(|source| No::Silent { address, source })?;
    let is_yes = answer.split(' ').nth(1) == Some("200");
    if is_yes { Ok(()) } else { Err(No::Refused { address, question, answer }) }
}

/// As [`ask`], for a program's `main`: a no is told on standard error.
pub fn exit_code(program: &str, asked: Result<(), No>) -> ExitCode {
    let Err(no) = asked else { return ExitCode::SUCCESS };
    // Without an output there is nobody to tell.
    let _unwritable = match &no {
        No::Silent { source, .. } => writeln!(io::stderr(), "{program}: {no}: {source}"),
        No::Refused { .. } => writeln!(io::stderr(), "{program}: {no}"),
    };
    ExitCode::FAILURE
}

/// Who listens on every address is here, too.
fn near(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

fn answer(question: Question, address: SocketAddr, door: Door<'_>) -> io::Result<String> {
    let connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    if door.tls {
        let session = ClientConnection::new(Arc::new(believing()?), address.ip().into()).map_err(io::Error::other)?;
        first_line(question, StreamOwned::new(session, connection), door.host)
    } else {
        first_line(question, connection, door.host)
    }
}

fn first_line(question: Question, mut connection: impl Read + Write, host: &str) -> io::Result<String> {
    // In one piece: whoever answers the first of several and hangs up would break off the others.
    let request = format!("GET {question} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    // The rest of the answer is not waited for.
    let mut line = String::new();
    BufReader::new(connection.take(LINE_MAX)).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Believes whatever certificate it is shown: it is for another name than that of the machine inside a container, and whoever
/// listens at our own address learns nothing from the question.
fn believing() -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(Believing(provider))).with_no_client_auth())
}

#[derive(Debug)]
struct Believing(Arc<CryptoProvider>);

impl ServerCertVerifier for Believing {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    fn at(listen: SocketAddr) -> Door<'static> {
        Door { listen, host: "localhost", tls: false }
    }

    /// Answers one request with `answer`, and gives back what was asked.
    fn server(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut asked = [0; 512];
            let read = connection.read(&mut asked).unwrap();
            connection.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        (address, serving)
    }

    #[test]
    fn yes_is_200_and_nothing_else() {
        let (address, serving) = server("HTTP/1.1 200 OK\r\n\r\n{}");
        // Whoever listens everywhere is asked on loopback, by the name it answers to.
        let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
        assert!(ask(Question::Ready, Door { listen: everywhere, host: "fleet.example", tls: false }).is_ok());
        assert!(serving.join().unwrap().starts_with("GET /ready HTTP/1.1\r\nHost: fleet.example\r\n"));
        for (answer, told) in [
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "503 Service Unavailable"),
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
            ("", "\"\""),
        ] {
            let (address, serving) = server(answer);
            let no = ask(Question::Health, at(address)).unwrap_err().to_string();
            assert!(no.contains("/health answers") && no.contains(told), "{no}");
            assert!(serving.join().unwrap().starts_with("GET /health "));
        }
    }

    #[test]
    fn nobody_is_no() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(ask(Question::Health, at(address)), Err(No::Silent { .. })));
        assert_eq!(exit_code("test", ask(Question::Health, at(address))), ExitCode::FAILURE);
        assert_eq!(exit_code("test", Ok(())), ExitCode::SUCCESS);
    }
}
