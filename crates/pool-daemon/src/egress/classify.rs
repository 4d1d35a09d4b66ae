//! What an address is, however it is written, and which names mean one without being asked about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Anywhere in the Internet.
    Public,
    /// This machine.
    Loopback,
    /// Of a private network, or shared with other customers of a provider.
    Private,
    /// Of the wire we are on.
    LinkLocal,
    /// Where clouds hand out credentials to whoever asks.
    Metadata,
    Multicast,
    /// `0.0.0.0` and `::`, by which this machine is reached, too.
    Unspecified,
    /// For documentation, benchmarks, transition or future use: no place to go to.
    Reserved,
}

impl Class {
    /// With its article, for messages.
    pub fn described(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Loopback => "an address of this machine",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud metadata address",
            Self::Multicast => "a multicast address",
            Self::Unspecified => "the unspecified address",
            Self::Reserved => "a reserved address",
        }
    }
}

/// Services that hand out a machine's credentials: AWS, Azure, GCP and others; ECS; EKS; Alibaba; Oracle; Azure's second
/// one, at a public address; AWS, EKS and GCP over IPv6.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];
const METADATA_NAMES: [&str; 5] =
    ["metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"];

/// What an address is. One that carries an IPv4 address (mapped, translated, NAT64) is what that one is.
pub fn address(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => of_v4(address),
        IpAddr::V6(address) => embedded(address).map_or_else(|| of_v6(address), of_v4),
    }
}

/// What a host's name means without asking anybody. The name is as the WHATWG parser writes it, without a final dot.
pub fn name(host: &str) -> Option<Class> {
    if host == "localhost" || host.ends_with(".localhost") {
        Some(Class::Loopback)
    } else if METADATA_NAMES.contains(&host) {
        Some(Class::Metadata)
    } else {
        None
    }
}

fn of_v4(address: Ipv4Addr) -> Class {
    if METADATA_V4.contains(&address) {
        return Class::Metadata;
    }
    match address.octets() {
        [0, 0, 0, 0] => Class::Unspecified,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Class::Private,
        [169, 254, ..] => Class::LinkLocal,
        [224..=239, ..] => Class::Multicast,
        // "This network"; protocol assignments, documentation, 6to4 relays; benchmarks; the future and broadcast.
        [0 | 240..=255, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Class::Reserved,
        _ => Class::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Class {
    if METADATA_V6.contains(&address) {
        return Class::Metadata;
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Class::Private,
        [0xff00..=0xffff, ..] => Class::Multicast,
        // Protocol assignments with Teredo; documentation; 6to4: what lies behind those two cannot be told.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => Class::Reserved,
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

/// The IPv4 address that an IPv6 address stands for: `::a.b.c.d`, `::ffff:a.b.c.d`, `::ffff:0:a.b.c.d`, `64:ff9b::a.b.c.d`.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0..=1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(text: &str) -> Class {
        address(text.parse().unwrap())
    }

    #[test]
    fn every_kind_of_address() {
        let table = [
            (
                Class::Public,
                "8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.0.1.1 198.20.0.1 223.255.255.255",
            ),
            (Class::Public, "2606:4700:4700::1111 2001:4860:4860::8888 2001:200::1 64:ff9b::8.8.8.8 ::ffff:8.8.8.8"),
            (
                Class::Loopback,
                "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::127.0.0.1 ::ffff:0:127.0.0.1",
            ),
            (
                Class::Private,
                "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.127.255.255 fc00::1 fdff::1 fec0::1",
            ),
            (Class::Private, "::ffff:10.0.0.1 64:ff9b::192.168.0.1 ::ffff:100.64.0.1"),
            (Class::LinkLocal, "169.254.0.1 fe80::1 febf::1 ::ffff:169.254.1.1"),
            (
                Class::Metadata,
                "168.63.129.16 192.0.0.192 fd20:ce::254 169.254.169.254 169.254.170.2 100.100.100.200 fd00:ec2::254 ::ffff:169.254.169.254 64:ff9b::169.254.169.254",
            ),
            (Class::Multicast, "224.0.0.1 239.255.255.255 ff02::1"),
            (Class::Unspecified, "0.0.0.0 :: ::ffff:0.0.0.0 64:ff9b::0.0.0.0"),
            (
                Class::Reserved,
                "0.1.2.3 192.0.0.1 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 240.0.0.1 255.255.255.255",
            ),
            (Class::Reserved, "2001::1 2001:db8::1 2002:7f00:1:: 3fff::1 100::1 64:ff9b:1::1 5f00::1 4000::1"),
        ];
        for (expected, addresses) in table {
            for text in addresses.split(' ') {
                assert_eq!(class(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn names_that_mean_this_machine_or_its_credentials() {
        assert_eq!(name("localhost"), Some(Class::Loopback));
        assert_eq!(name("a.localhost"), Some(Class::Loopback));
        assert_eq!(name("metadata.google.internal"), Some(Class::Metadata));
        assert_eq!(name("notlocalhost"), None);
        assert_eq!(name("localhost.example.com"), None);
    }

    proptest! {
        /// std's own idea of these is narrower than ours, never wider.
        #[test]
        fn nothing_that_std_knows_is_public(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            if address(v4.into()) == Class::Public {
                prop_assert!(!(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast()
                    || v4.is_documentation() || v4.is_unspecified() || v4.is_multicast()));
            }
        }

        /// Wrapping an address changes its class only to one that is blocked.
        #[test]
        fn an_address_is_itself_in_every_wrapping(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            for wrapped in [v4.to_ipv6_mapped(), Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low)] {
                prop_assert_eq!(address(wrapped.into()), address(v4.into()));
            }
        }

        #[test]
        fn outside_the_global_unicast_space_nothing_is_public(bits: u128) {
            let v6 = Ipv6Addr::from(bits);
            if address(v6.into()) == Class::Public {
                prop_assert!(v6.segments()[0] >> 13 == 1 || embedded(v6).is_some());
            }
        }
    }
}
