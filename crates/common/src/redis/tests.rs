//! Against a real server. What sessions must do is in the front end's suite; here is what only Redis can do to them.

use std::time::Duration;

use redis::cmd;
use tokio::time::{Instant, sleep};

use super::{
    Error, Keys, Redis, Sessions, Settings,
    address::Address,
    checks::{self, Need},
    looking::{Held, Hold, Sight},
    sessions::NewSession,
    testing::Server,
};
use crate::{
    authorities::Authorities,
    checkpoint::Store as _,
    egress::Egress,
    ids::{Principal, SessionName},
    session::{Client, Created, Full, Key, LeaseRef, LeaseState, Limits, Loss, LossReason, Owner, Swapped},
};

const IDLE: Duration = Duration::from_millis(500);

fn key(name: &str) -> Key {
    Key { principal: Principal::named("me"), name: SessionName::parse(name).unwrap() }
}

fn lease(id: &str) -> LeaseState {
    LeaseState::held(LeaseRef { lease_id: id.to_owned(), token: "token".to_owned(), daemon: "there".to_owned() })
}

async fn create(sessions: &Sessions, key: &Key, birth: &str, lease: &LeaseState) -> Created {
    let new = NewSession {
        key,
        birth,
        connection: None,
        client: &Client::default(),
        egress: &Egress::default(),
        idle_ttl: IDLE,
        max_lifetime: IDLE * 10,
        lease,
        limits: Limits { per_principal: 3, total: 4 },
    };
    sessions.create(new).await.unwrap()
}

async fn fresh(sessions: &Sessions, name: &str) -> bool {
    matches!(create(sessions, &key(name), name, &LeaseState::default()).await, Created::Fresh(_))
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again_without_an_error() {
    let mut server = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let sessions = Sessions::new(server.client());
    assert!(fresh(&sessions, "kept").await);
    server.restart().await;
    let seen = sessions.look(&[key("kept"), key("other")]).await.unwrap();
    assert!(
        matches!(&seen[..], [Sight::Lives(Held { lease_id: None, .. }), Sight::Missing { ended: None }]),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_at_once_and_one_that_says_nothing_is_one_in_time() {
    let mut server = Server::start().await;
    let limit = Duration::from_millis(400);
    let redis = Redis::new(Settings { command_timeout: limit, connect_timeout: limit, ..server.settings() });
    let sessions = Sessions::new(redis.clone());
    assert!(fresh(&sessions, "a").await);
    server.freeze(true);
    let started = Instant::now();
    let late = sessions.touch(&key("a")).await.unwrap_err();
    assert!(matches!(late, Error::Late(_)) && started.elapsed() < limit * 3, "{late:?} after {:?}", started.elapsed());
    server.freeze(false);
    assert!(redis.is_reachable().await, "it is asked again over a new connection");
    server.kill();
    let started = Instant::now();
    for _ in 0..20 {
        let away = sessions.touch(&key("a")).await.unwrap_err();
        assert!(matches!(away, Error::Connect(_) | Error::Failed(_)), "{away:?}");
    }
    assert!(started.elapsed() < limit, "a refused connection is not waited for: {:?}", started.elapsed());
    server.restart().await;
    sleep(Duration::from_millis(150)).await;
    assert_eq!(sessions.touch(&key("a")).await.unwrap(), None, "no answer was an error, this is an answer");
}

#[tokio::test]
async fn places_come_back_when_sessions_lapse_and_nothing_is_left_of_them() {
    let server = Server::start().await;
    let sessions = Sessions::new(server.client());
    for name in ["a", "b", "c"] {
        assert!(fresh(&sessions, name).await);
    }
    let full = create(&sessions, &key("d"), "d", &LeaseState::default()).await;
    assert_eq!(full, Created::Full(Full::Principal));
    assert!(matches!(create(&sessions, &key("a"), "x", &LeaseState::default()).await, Created::Existing(_)));
    let keys: Vec<String> = server.client().query(cmd("KEYS").arg("*")).await.unwrap();
    for key in keys {
        let rest: i64 = server.client().query(cmd("PTTL").arg(&key)).await.unwrap();
        assert!(rest > 0, "{key} would stay for ever");
    }
    sleep(IDLE * 2).await;
    assert!(fresh(&sessions, "d").await, "their places are free");
    assert_eq!(sessions.count(Some(&Principal::named("me"))).await.unwrap(), 1);
}

#[tokio::test]
async fn the_last_session_to_end_leaves_no_place_of_checkpoints_that_have_lapsed() {
    let server = Server::start().await;
    let (sessions, redis, me) = (Sessions::new(server.client()), server.client(), Principal::named("me"));
    for name in ["lapsed", "last"] {
        create(&sessions, &key(name), name, &lease(name)).await;
        let owner = Owner { key: key(name), birth: name.to_owned() };
        assert!(sessions.save_checkpoint(&owner, name, b"sealed".to_vec()).await.unwrap());
    }
    let (places, lapsed) = (sessions.keys.checkpoints_of(&me), Keys::member(&me, &key("lapsed").name));
    // As if its longest lifetime were over.
    redis
        .query::<()>(cmd("DEL").arg(sessions.keys.checkpoint(&lapsed)).arg(sessions.keys.record(&lapsed)))
        .await
        .unwrap();
    redis.query::<()>(cmd("ZADD").arg(&places).arg(1).arg(&lapsed)).await.unwrap();
    assert!(sessions.end(&key("last"), None).await.unwrap().is_some());
    assert!(!redis.query::<bool>(cmd("EXISTS").arg(&places)).await.unwrap());
}

#[tokio::test]
async fn a_checkpoint_whose_count_was_lost_is_counted_with_the_next_save() {
    let server = Server::start().await;
    let (sessions, owner) = (Sessions::new(server.client()), Owner { key: key("a"), birth: "a".to_owned() });
    create(&sessions, &key("a"), "a", &lease("held")).await;
    assert!(sessions.save_checkpoint(&owner, "held", b"sealed".to_vec()).await.unwrap());
    let places = sessions.keys.checkpoints_of(&owner.key.principal);
    // As if the answer to the first save had been lost, and nobody had gone on.
    server.client().query::<()>(cmd("DEL").arg(&places)).await.unwrap();
    assert!(sessions.save_checkpoint(&owner, "held", b"sealed".to_vec()).await.unwrap());
    assert_eq!(server.client().query::<usize>(cmd("ZCARD").arg(&places)).await.unwrap(), 1);
    assert!(!sessions.save_checkpoint(&owner, "another", b"sealed".to_vec()).await.unwrap());
}

#[tokio::test]
async fn a_checkpoint_that_is_counted_after_its_session_has_ended_takes_no_place() {
    let server = Server::start().await;
    let (sessions, owner) = (Sessions::new(server.client()), Owner { key: key("a"), birth: "a".to_owned() });
    let (me, member) = (&owner.key.principal, Keys::member(&owner.key.principal, &owner.key.name));
    create(&sessions, &owner.key, "a", &lease("held")).await;
    assert!(sessions.save_checkpoint(&owner, "held", b"sealed".to_vec()).await.unwrap());
    let ends = sessions.checkpoints_of(me).score(&member).await.unwrap().unwrap();
    assert!(sessions.end(&owner.key, None).await.unwrap().is_some());
    let counted = async || sessions.checkpoints_of(me).score(&member).await.unwrap();
    assert_eq!(counted().await, None);
    // The end came between the two halves of a save.
    sessions.make_room(me, &member, ends.parse().unwrap()).await.unwrap();
    assert_eq!(counted().await, None);
}

#[tokio::test]
async fn what_redis_has_lost_can_be_written_again_and_the_epoch_tells() {
    let server = Server::start().await;
    let sessions = Sessions::new(server.client());
    let (before, again) = (sessions.epoch().await.unwrap(), sessions.epoch().await.unwrap());
    assert_eq!(before, again);
    create(&sessions, &key("a"), "birth", &lease("held")).await;
    server.client().query::<()>(&cmd("FLUSHALL")).await.unwrap();
    assert_ne!(sessions.epoch().await.unwrap(), before);
    assert_eq!(sessions.look(&[key("a")]).await.unwrap(), [Sight::Missing { ended: None }]);
    let Created::Fresh(record) = create(&sessions, &key("a"), "birth", &lease("held")).await else { panic!("fresh") };
    assert_eq!((record.birth.as_str(), &record.lease), ("birth", &lease("held")));
    let held = held(&sessions, "a").await;
    assert_eq!((held.birth.as_str(), held.lease_id.as_deref(), held.doubtful), ("birth", Some("held"), None));
    assert!(held.rest.is_some_and(|rest| rest <= IDLE && rest > IDLE / 2));
}

/// What a session that lives holds.
async fn held(sessions: &Sessions, name: &str) -> Held {
    match sessions.look(&[key(name)]).await.unwrap().remove(0) {
        Sight::Lives(held) => held,
        missing @ Sight::Missing { .. } => panic!("{name}: {missing:?}"),
    }
}

async fn holds(sessions: &Sessions, name: &str, lease_id: &str) -> Hold {
    let record = sessions.record_of(&key(name));
    sessions.holds(&[(&record, lease_id)]).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_daemon_sees_what_has_ended_and_what_is_in_doubt() {
    let server = Server::start().await;
    let sessions = Sessions::new(server.client());
    create(&sessions, &key("a"), "birth", &lease("held")).await;
    let lost = |reason| LeaseState::lost(Loss::new(lease("held").lease.as_ref().unwrap(), reason));
    for (reason, doubtful) in [(LossReason::Unreachable, Some("held")), (LossReason::BrowserGone, None)] {
        let before = held(&sessions, "a").await.lease_id;
        sessions.swap_lease(&key("a"), "birth", before.as_deref(), &lost(reason)).await.unwrap();
        let now = held(&sessions, "a").await;
        assert_eq!((now.lease_id, now.doubtful.as_deref()), (None, doubtful));
    }
    // Somebody has seen to it that it never ends.
    let record = Keys::new("bf").record(&Keys::member(&key("a").principal, &key("a").name));
    server.client().query::<()>(cmd("PERSIST").arg(record)).await.unwrap();
    assert_eq!(held(&sessions, "a").await.rest, None);
    create(&sessions, &key("b"), "birth", &lease("held")).await;
    assert_eq!(holds(&sessions, "b", "another").await, Hold::Unclear);
    assert!(matches!(holds(&sessions, "b", "held").await, Hold::Held { rest: Some(rest) } if rest <= IDLE));
    let record = Keys::new("bf").record(&Keys::member(&key("b").principal, &key("b").name));
    server.client().query::<()>(cmd("PERSIST").arg(&record)).await.unwrap();
    assert_eq!(holds(&sessions, "b", "held").await, Hold::Held { rest: None });
    server.client().query::<()>(cmd("HSET").arg(record).arg("lease").arg("of another version")).await.unwrap();
    assert_eq!(held(&sessions, "b").await.lease_id.as_deref(), Some("held"), "it is seen all the same");
    sessions.end(&key("a"), Some("another")).await.unwrap();
    held(&sessions, "a").await;
    sessions.end(&key("a"), Some("birth")).await.unwrap();
    let ended = Some("birth".to_owned());
    assert_eq!(sessions.look(&[key("a")]).await.unwrap(), [Sight::Missing { ended }]);
}

#[tokio::test]
async fn a_repeated_creation_is_the_same_one() {
    let server = Server::start().await;
    let sessions = Sessions::new(server.client());
    let first = create(&sessions, &key("a"), "birth", &LeaseState::default()).await;
    // As when the answer was lost: the caller asks again.
    assert_eq!(create(&sessions, &key("a"), "birth", &LeaseState::default()).await, first);
    let other = create(&sessions, &key("a"), "another", &LeaseState::default()).await;
    assert!(matches!(other, Created::Existing(record) if record.birth == "birth"));
}

#[tokio::test]
async fn a_repeated_end_answers_what_the_first_did_and_nobody_else_gets_it() {
    let server = Server::start().await;
    let sessions = Sessions::new(server.client());
    create(&sessions, &key("a"), "birth", &LeaseState::default()).await;
    let ended = sessions.end_by("me", &key("a"), None).await.unwrap();
    assert_eq!(ended.as_ref().map(|record| &*record.birth), Some("birth"));
    // As when the answer was lost: the same request once more.
    assert_eq!(sessions.end_by("me", &key("a"), None).await.unwrap(), ended);
    assert_eq!(sessions.end(&key("a"), None).await.unwrap(), None);
    // The next one of this name is another session.
    create(&sessions, &key("a"), "another", &LeaseState::default()).await;
    assert_eq!(sessions.end_by("me", &key("a"), Some("birth")).await.unwrap(), ended);
    assert!(sessions.touch(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn deployments_share_a_server() {
    let server = Server::start().await;
    let of = |prefix: &str| Sessions::new(Redis::new(Settings { prefix: prefix.to_owned(), ..server.settings() }));
    let (one, other) = (of("one"), of("other"));
    assert!(fresh(&one, "a").await && fresh(&other, "a").await);
    assert!(one.end(&key("a"), None).await.unwrap().is_some());
    assert_eq!((one.count(None).await.unwrap(), other.count(None).await.unwrap()), (0, 1));
}

#[tokio::test]
async fn a_server_that_would_lose_sessions_is_found_before_the_start() {
    let server = Server::with(&["--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru"]).await;
    let findings = checks::look_at(&server.client(), Need::Memory).await;
    assert!(findings.problems.len() == 1 && findings.problems[0].contains("noeviction"), "{findings:?}");
    assert!(findings.warnings.len() == 1 && findings.warnings[0].contains("appendonly"), "{findings:?}");
    let lasting = Server::with(&["--appendonly", "yes"]).await;
    assert_eq!(checks::look_at(&lasting.client(), Need::Messages).await, checks::Findings::default());
    drop(lasting);
    let nobody = Redis::new(Settings::at("redis://:secret@127.0.0.1:1".parse().unwrap()));
    let findings = checks::look_at(&nobody, Need::Messages).await;
    let away = findings.away.unwrap();
    assert!(findings.problems.is_empty() && away.contains("is it running") && !away.contains("secret"), "{away}");
}

#[tokio::test]
async fn a_server_that_does_not_let_us_is_found_before_the_start() {
    let server = Server::start().await;
    let user = ["SETUSER", "limited", "on", ">secret", "~*", "+@all", "resetchannels"];
    server.client().query::<()>(cmd("ACL").arg(&user)).await.unwrap();
    let limited = at(&server, &format!("redis://limited:secret@127.0.0.1:{}", server.port()));
    assert_eq!(checks::look_at(&limited, Need::Memory).await.problems, Vec::<String>::new());
    let stranger = at(&server, &format!("redis://limited:wrong@127.0.0.1:{}", server.port()));
    for (redis, need, says) in [(limited, Need::Messages, "channels"), (stranger, Need::Memory, "password")] {
        let findings = checks::look_at(&redis, need).await;
        assert!(findings.away.is_none() && findings.problems.len() == 1, "{findings:?}");
        assert!(findings.problems[0].contains(says) && !findings.problems[0].contains("secret"), "{findings:?}");
    }
}

#[tokio::test]
async fn sessions_of_others_are_never_asked_for() {
    let server = Server::start().await;
    let sessions = Sessions::new(server.client());
    assert!(fresh(&sessions, "a").await);
    let other = Key { principal: Principal::named("other"), ..key("a") };
    assert_eq!(sessions.touch(&other).await.unwrap(), None);
    assert_eq!(sessions.list(Some(&other.principal), 10).await.unwrap(), []);
    let keys: Vec<String> = server.client().query(cmd("KEYS").arg("*")).await.unwrap();
    assert!(!keys.iter().any(|key| key.contains(":me")), "no key shows who somebody is: {keys:?}");
    assert!(keys.contains(&Keys::new("bf").record(&Keys::member(&Principal::named("me"), &key("a").name))));
}

/// What sessions do, wherever they are kept.
async fn live(redis: Redis) {
    let sessions = Sessions::new(redis.clone());
    assert_eq!(sessions.epoch().await.unwrap(), sessions.epoch().await.unwrap());
    for name in ["a", "b", "c"] {
        assert!(fresh(&sessions, name).await);
    }
    let bound = sessions.swap_lease(&key("a"), "a", None, &lease("held")).await.unwrap();
    assert_eq!(bound, Swapped::Done);
    assert_eq!(sessions.touch(&key("a")).await.unwrap().unwrap().lease, lease("held"));
    let seen = sessions.look(&[key("a"), key("x"), key("b")]).await.unwrap();
    assert!(matches!(&seen[..], [Sight::Lives(_), Sight::Missing { .. }, Sight::Lives(_)]), "{seen:?}");
    let [a, x, b] = ["a", "x", "b"].map(|name| sessions.record_of(&key(name)));
    let holds = sessions.holds(&[(&a, "held"), (&x, "held"), (&b, "held")]).await.unwrap();
    assert!(matches!(&holds[..], [Hold::Held { rest: Some(_) }, Hold::Unclear, Hold::Unclear]), "{holds:?}");
    assert!(sessions.end(&key("a"), Some("a")).await.unwrap().is_some());
    let me = Principal::named("me");
    assert_eq!((sessions.count(Some(&me)).await.unwrap(), sessions.list(None, 10).await.unwrap().len()), (2, 2));
    sleep(IDLE * 2).await;
    assert_eq!((sessions.count(None).await.unwrap(), sessions.list(Some(&me), 10).await.unwrap().len()), (0, 0));
    assert_eq!(checks::look_at(&redis, Need::Messages).await.problems, Vec::<String>::new());
    // If the first address is not there, the next one is tried.
    let mut listening = match redis.subscriber().await {
        Ok(listening) => listening,
        Err(_not_there) => redis.subscriber().await.unwrap(),
    };
    listening.subscribe("channel").await.unwrap();
    redis.query_once::<()>(cmd("PUBLISH").arg("channel").arg("heard")).await.unwrap();
    let heard = futures_util::StreamExt::next(&mut listening.on_message()).await.unwrap();
    assert_eq!(heard.get_payload_bytes(), b"heard");
}

fn at(server: &Server, address: &str) -> Redis {
    Redis::new(server.settings_at(address))
}

#[tokio::test]
async fn a_cluster_will_do() {
    let server = Server::cluster().await;
    // The first node is not there: the others say where everything is.
    live(at(&server, &format!("redis+cluster://127.0.0.1:1,127.0.0.1:{}", server.port()))).await;
}

#[tokio::test]
async fn over_tls_a_server_is_known_by_its_certificate() {
    let (server, other) = (Server::tls().await, Server::tls().await);
    live(server.client()).await;
    // Another's certificate, and those of this machine, vouch for nobody here; without TLS it does not listen.
    let encrypted: Address = format!("rediss://127.0.0.1:{}", server.port()).parse().unwrap();
    let misled = encrypted.clone().vouched_for_by(other.authorities()).unwrap();
    for address in [misled, encrypted, format!("redis://127.0.0.1:{}", server.port()).parse().unwrap()] {
        assert!(!Redis::new(Settings { address, ..server.settings() }).is_reachable().await);
    }
}

#[tokio::test]
async fn who_vouches_for_a_server_is_read_again() {
    let (mut server, other) = (Server::tls().await, Server::tls().await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("authorities.pem");
    std::fs::copy(other.certificate_file(), &file).unwrap();
    let address: Address = format!("rediss://127.0.0.1:{}", server.port()).parse().unwrap();
    let address = address.vouched_for_by(Some(Authorities::reloaded(&file).unwrap())).unwrap();
    let redis = Redis::new(Settings { address, ..server.settings() });
    assert!(!redis.is_reachable().await && redis.subscriber().await.is_err());
    std::fs::copy(server.certificate_file(), &file).unwrap();
    assert!(redis.subscriber().await.is_ok());
    sleep(Duration::from_millis(200)).await;
    live(redis.clone()).await;
    // What cannot be used changes nothing.
    std::fs::write(&file, "no certificate").unwrap();
    server.restart().await;
    live(redis).await;
}

#[tokio::test]
async fn over_tls_a_cluster_and_sentinels_will_do() {
    let cluster = Server::tls_cluster().await;
    live(at(&cluster, &format!("rediss+cluster://127.0.0.1:1,127.0.0.1:{}", cluster.port()))).await;
    let server = Server::tls().await;
    let sentinel = Server::sentinel(&server, "main").await;
    live(at(&server, &format!("rediss+sentinel://127.0.0.1:{}/main", sentinel.port()))).await;
    let in_clear = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port()).parse().unwrap();
    assert!(!Redis::new(Settings { address: in_clear, ..server.settings() }).is_reachable().await);
}

#[tokio::test]
async fn sentinels_say_where_the_master_is() {
    let mut server = Server::start().await;
    let sentinel = Server::sentinel(&server, "main").await;
    let redis = at(&server, &format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/main", sentinel.port()));
    live(redis.clone()).await;
    server.restart().await;
    assert!(redis.is_reachable().await, "it is asked for again");
    let nobody = at(&server, &format!("redis+sentinel://127.0.0.1:{}/another", sentinel.port()));
    assert!(!nobody.is_reachable().await);
}
