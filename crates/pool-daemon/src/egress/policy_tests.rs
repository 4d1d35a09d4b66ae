use browserfleet_common::egress::Egress;

use super::*;

fn policy(network: Network, opened: &[&str], allowed: &[&str], blocked: &[&str]) -> Policy {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    let egress = Egress { allowed_origins: texts(allowed), blocked_origins: texts(blocked), proxy_server: None };
    let opened = opened.iter().map(|text| Opened::parse(text).unwrap()).collect();
    Policy::new(network, opened, egress.rules().unwrap())
}

fn at(authority: &str) -> Target {
    Target::of_authority(authority).unwrap()
}

fn admits(policy: &Policy, authority: &str, address: &str) -> bool {
    let target = at(authority);
    policy.admit(&target).is_ok() && policy.admit_address(&target, address.parse().unwrap()).is_ok()
}

/// The rows of bad hosts that a tool may be given, in every spelling that led to this machine.
#[test]
fn in_public_only_public_places_are_reached() {
    let public = policy(Network::Public, &[], &[], &[]);
    for host in [
        "127.1",
        "0",
        "0x7f000001",
        "2130706433",
        "①②⑦.0.0.1",
        "[::ffff:127.0.0.1]",
        "localhost.",
        "a.localhost",
        "[::]",
        "169.254.169.254",
        "metadata.google.internal",
        "100.64.0.1",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a00:1]",
        "10.0.0.1",
        "[fd00:ec2::254]",
        "224.0.0.1",
        "[ff02::1]",
        "192.168.0.1",
        "[fe80::1]",
        "255.255.255.255",
        "[::1]",
        "[::127.0.0.1]",
    ] {
        assert!(public.admit(&at(host)).is_err(), "{host}");
    }
    assert!(admits(&public, "example.com", "93.184.216.34") && admits(&public, "example.com:443", "2606:4700::1"));
    assert!(public.admit(&at("[64:ff9b::808:808]")).is_ok(), "public addresses through NAT64");
    assert!(matches!(public.admit(&at("example.com:22")), Err(Blocked::Port { .. })));
    assert!(matches!(public.admit(&at("8.8.8.8:8080")), Err(Blocked::Port { .. })));
}

#[test]
fn a_name_is_as_good_as_what_it_leads_to() {
    let public = policy(Network::Public, &[], &[], &[]);
    for address in ["127.0.0.1", "10.1.2.3", "::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "169.254.169.254", "0.0.0.0"]
    {
        assert!(!admits(&public, "rebinding.example", address), "{address}");
    }
}

#[test]
fn in_local_everything_is_reached_but_credentials() {
    let local = policy(Network::Local, &[], &[], &[]);
    assert!(admits(&local, "localhost:3000", "127.0.0.1") && admits(&local, "10.0.0.1:22", "10.0.0.1"));
    assert!(local.admit(&at("169.254.169.254")).is_err() && local.admit(&at("metadata.google.internal")).is_err());
    assert!(!admits(&local, "rebinding.example", "169.254.169.254"));
}

#[test]
fn operators_open_hosts_addresses_and_networks() {
    let public =
        policy(Network::Public, &["intranet.example:8080", "10.1.0.0/16", "[fd00::/8]:81", "*.corp"], &[], &[]);
    assert!(admits(&public, "intranet.example:8080", "192.168.0.1"));
    assert!(!admits(&public, "intranet.example", "192.168.0.1") && !admits(&public, "other.example", "192.168.0.1"));
    assert!(admits(&public, "10.1.2.3:9000", "10.1.2.3") && admits(&public, "any.example:9000", "10.1.9.9"));
    assert!(admits(&public, "any.example", "::ffff:10.1.9.9") && !admits(&public, "any.example", "10.2.0.1"));
    assert!(admits(&public, "[fd00::1]:81", "fd00::1") && !admits(&public, "[fd00::1]:82", "fd00::1"));
    assert!(admits(&public, "a.corp:22", "10.9.9.9") && !admits(&public, "corp", "10.9.9.9"));
    assert!(!admits(&public, "any.example:9000", "8.8.8.8"), "a port that is open there is not open elsewhere");
    for text in ["", "a/b", "10.0.0.0/33", "ftp://a"] {
        assert!(Opened::parse(text).is_err(), "{text}");
    }
}

#[test]
fn sessions_narrow_and_never_widen() {
    let session =
        policy(Network::Public, &[], &["*.example.com", "https://shop.test", "127.0.0.1"], &["evil.example.com"]);
    assert!(admits(&session, "a.example.com", "8.8.8.8") && admits(&session, "shop.test:443", "8.8.8.8"));
    assert!(matches!(session.admit(&at("shop.test")), Err(Blocked::NotAllowed { .. })));
    assert!(matches!(session.admit(&at("evil.example.com")), Err(Blocked::Unwanted { .. })));
    assert!(matches!(session.admit(&at("127.0.0.1")), Err(Blocked::Place { class: Class::Loopback, .. })));
}

#[test]
fn keys_narrow_what_sessions_may_widen() {
    let session = Egress { allowed_origins: vec!["*".to_owned()], ..Egress::default() }.rules().unwrap();
    let key = OriginRules::of_key(&["*.example.com".to_owned()], &["evil.example.com".to_owned()]).unwrap();
    let both = Policy::new(Network::Local, Arc::new([]), EgressRules { key, ..session });
    assert!(admits(&both, "a.example.com", "8.8.8.8"));
    let refused = |host: &str| both.admit(&at(host)).unwrap_err().to_string();
    assert_eq!(refused("other.test"), "other.test:80 is not among the origins that your API key allows");
    assert_eq!(refused("evil.example.com"), "evil.example.com:80 is among the origins that your API key blocks");
    // A proxy of the session's own would see everything.
    assert!(
        both.admit_proxy(&at("proxy.example.com:3128")).is_ok() && both.admit_proxy(&at("evil.test:3128")).is_err()
    );
}

#[test]
fn a_blocked_address_is_blocked_by_every_name() {
    let session = policy(Network::Local, &["10.0.0.0/8"], &[], &["10.0.0.5", "127.0.0.1"]);
    for (authority, address) in [
        ("10.0.0.5", "10.0.0.5"),
        ("[::ffff:a00:5]", "::ffff:10.0.0.5"),
        ("any.example", "10.0.0.5"),
        ("a.localhost", "127.0.0.1"),
    ] {
        assert!(!admits(&session, authority, address), "{authority}");
    }
    assert!(admits(&session, "any.example", "10.0.0.6"));
}

#[test]
fn an_unleased_browser_reaches_nothing() {
    assert_eq!(Policy::nothing().admit(&at("example.com")), Err(Blocked::Unleased));
}

#[test]
fn the_reason_says_what_leads_where_and_who_can_change_it() {
    let public = policy(Network::Public, &[], &[], &[]);
    let reason = public.admit_address(&at("a.example"), "10.0.0.1".parse().unwrap()).unwrap_err().to_string();
    assert_eq!(
        reason,
        "a.example:80 leads to 10.0.0.1, a private address: browsers here reach public addresses only; the operator opens \
         others with egress.allow"
    );
}
