//! Where Redis is, and how long it may take.

use std::{path::Path, time::Duration};

use super::address::{Address, BadAddress};
use crate::{
    authorities::Authorities,
    config::Reader,
    keyring::Keyring,
    secret_file::{self, BadFile},
};

/// Longest prefix of keys: it is in each of them.
const PREFIX_MAX: usize = 32;
const PREFIX: &str = "bf";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// `[store]`: where Redis is, and how long it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    pub address: Address,
    /// Every key begins with it, so that deployments can share a server.
    pub prefix: String,
    /// For a new connection.
    pub connect_timeout: Duration,
    /// For a command: waiting for a connection and repeating it over a new one included.
    pub command_timeout: Duration,
    /// Seals and signs what is kept of sessions. None: a secret in Redis does.
    pub keyring: Option<Keyring>,
}

impl Settings {
    /// A server at this address, with the defaults.
    pub fn at(address: Address) -> Self {
        Self {
            address,
            prefix: PREFIX.to_owned(),
            connect_timeout: CONNECT_TIMEOUT,
            command_timeout: COMMAND_TIMEOUT,
            keyring: None,
        }
    }

    /// Reads the table; what is wrong with it is collected in `reader`. `None`: no Redis is wanted.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        const LEAST: Duration = Duration::from_millis(50);
        const MOST: Duration = Duration::from_secs(30);
        let url = reader.text("store.url", "");
        let prefix = reader.text("store.prefix", PREFIX);
        let connect_timeout = reader.duration("store.connect_timeout", CONNECT_TIMEOUT, LEAST..=MOST);
        let command_timeout = reader.duration("store.command_timeout", COMMAND_TIMEOUT, LEAST..=MOST);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=PREFIX_MAX).contains(&prefix.len()) || !prefix.bytes().all(allowed) {
            reader.problem(format!("store.prefix: not allowed; 1 to {PREFIX_MAX} characters of A-Z a-z 0-9 . _ -"));
        }
        if connect_timeout > command_timeout {
            reader.problem(
                "store.connect_timeout is longer than store.command_timeout, so no command could wait for a connection",
            );
        }
        let keyring = reader.file("store.secret_file", Keyring::read);
        let password = reader.file("store.password_file", read_password);
        let authorities = reader.file("store.ca_file", Authorities::reloaded);
        if url.is_empty() {
            return None;
        }
        let parsed =
            url.parse().and_then(|address: Address| address.with_password(password)?.vouched_for_by(authorities));
        let refuse = |bad: BadAddress| reader.problem(format!("store.url: {bad}"));
        let address = parsed.map_err(refuse).ok()?;
        Some(Self { address, prefix, connect_timeout, command_timeout, keyring })
    }
}

/// The first line of a file.
fn read_password(path: &Path) -> Result<String, BadFile> {
    let text = secret_file::read(path)?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() { Err(BadFile::new(path, "no password in its first line")) } else { Ok(password.to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::config::Flag;

    #[test]
    fn a_password_may_be_in_a_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"p@ss:word\n").unwrap();
        let read = |url: &str, path: &Path| {
            let flags: [Flag<'_>; 2] = [("store.url", Some(&url)), ("store.password_file", Some(&path))];
            let mut reader = Reader::new(None, &flags);
            let settings = Settings::read(&mut reader);
            let login = settings.map(|settings| settings.address.login(0));
            (login.and_then(|login| login.password().map(str::to_owned)), reader.finish(&[]))
        };
        assert_eq!(read("redis://a", file.path()), (Some("p@ss:word".to_owned()), Ok(())));
        let (_, twice) = read("redis://:other@a", file.path());
        assert!(twice.unwrap_err().to_string().contains("give one"));
        let (_, empty) = read("redis://a", tempfile::NamedTempFile::new().unwrap().path());
        assert!(empty.unwrap_err().to_string().contains("store.password_file"));
    }
}
