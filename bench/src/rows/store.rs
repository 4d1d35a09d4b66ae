//! What Redis costs: a session's look-up, and its memory there.

use anyhow::{Context as _, ensure};
use browserfleet_common::{
    egress::Egress,
    ids::{Principal, SessionName, random_hex},
    redis::{Redis, Sessions, sessions::NewSession},
    session::{Client, Created, Key, LeaseRef, LeaseState, Limits},
};
use tokio::time::{Duration, Instant};

use super::{Only, time_left};
use crate::{
    redis_server::RedisServer,
    report::{Row, Target},
    setup::Setup,
    stats::Samples,
};

pub(super) const IDS: &[&str] = &["store-resolve", "store-memory"];

/// Sessions that are there while one is looked up, and whose memory is measured.
const SESSIONS: usize = 10_000;
const PRINCIPALS: usize = 100;
/// Look-ups of a round: one alone is too short for the clock of a busy machine.
const LOOKUPS: u32 = 50;

pub(super) async fn measure(setup: &Setup, only: &Only) -> anyhow::Result<Vec<Row>> {
    if !only.wants_any(IDS) || !time_left(setup) {
        return Ok(Vec::new());
    }
    eprintln!("-- sessions in Redis");
    let server = RedisServer::start(setup).await?;
    let redis = Redis::new(server.settings()?);
    let sessions = Sessions::new(redis.clone());

    let before = used_memory(&redis).await?;
    let keys = fill(&sessions).await?;
    let each = (used_memory(&redis).await? - before) / f64::from(u32::try_from(SESSIONS)?) / 1024.0;
    let memory = Row::new("store-memory", format!("a session of {SESSIONS} in Redis, its indexes included"), "KiB");
    let memory = memory.target(Target::AtMost(2.0)).measured("ours", &Samples::one(each));
    Ok(vec![resolve(setup, &redis, &sessions, &keys).await?, memory])
}

/// Looks sessions up in turns with bare round trips.
async fn resolve(setup: &Setup, redis: &Redis, sessions: &Sessions, keys: &[Key]) -> anyhow::Result<Row> {
    let (mut raw, mut ours) = (Samples::default(), Samples::default());
    let (started, mut keys) = (Instant::now(), keys.iter().cycle());
    let before = scripts_run(redis).await?;
    for _ in 0..setup.pace.rounds {
        let begun = Instant::now();
        for _ in 0..LOOKUPS {
            redis.query::<()>(&redis::cmd("PING")).await?;
        }
        raw.add_time(begun.elapsed() / LOOKUPS);
        let begun = Instant::now();
        for key in keys.by_ref().take(usize::try_from(LOOKUPS)?) {
            ensure!(sessions.touch(key).await?.is_some(), "a session is there");
        }
        ours.add_time(begun.elapsed() / LOOKUPS);
        if started.elapsed() > setup.pace.row {
            break;
        }
    }
    let rounds = raw.summary().map_or(0, |summary| summary.n);
    let calls = scripts_run(redis).await? - before;
    let what = "a session looked up and prolonged in Redis; raw is a bare round trip";
    let row = Row::new("store-resolve", what, "ms").target(Target::RawPlus(0.2));
    let row = row.note(format!("{} scripts for {} look-ups", calls, rounds * usize::try_from(LOOKUPS)?));
    Ok(row.measured("raw", &raw).measured("ours", &ours))
}

async fn fill(sessions: &Sessions) -> anyhow::Result<Vec<Key>> {
    let principals: Vec<Principal> = (0..PRINCIPALS).map(|n| Principal::of_key(&n.to_string())).collect();
    let client = Client {
        name: Some("claude-code".to_owned()),
        version: Some("2.1.0".to_owned()),
        user_agent: Some("claude-code/2.1.0 (cli)".to_owned()),
    };
    let mut keys = Vec::new();
    for principal in principals.iter().cycle().take(SESSIONS) {
        let key = Key { principal: principal.clone(), name: SessionName::mint() };
        let lease = LeaseState::held(LeaseRef {
            lease_id: random_hex(),
            token: format!("{}/{}/3/17", random_hex(), random_hex()),
            daemon: "http://pool-daemon-0.pools.browserfleet.svc:50051".to_owned(),
        });
        let new = NewSession {
            key: &key,
            birth: &random_hex(),
            connection: Some(&random_hex()),
            client: &client,
            egress: &Egress::default(),
            idle_ttl: Duration::from_mins(10),
            max_lifetime: Duration::from_hours(8),
            lease: &lease,
            limits: Limits { per_principal: SESSIONS, total: SESSIONS },
        };
        ensure!(matches!(sessions.create(new).await?, Created::Fresh(_)), "a new session");
        keys.push(key);
    }
    Ok(keys)
}

async fn used_memory(redis: &Redis) -> anyhow::Result<f64> {
    Ok(info(redis, "memory", "used_memory:").await?.parse()?)
}

/// How often a script was run.
async fn scripts_run(redis: &Redis) -> anyhow::Result<u64> {
    let text = info(redis, "commandstats", "cmdstat_evalsha:").await?;
    let calls = text.strip_prefix("calls=").and_then(|rest| rest.split(',').next()).context("how often")?;
    Ok(calls.parse()?)
}

async fn info(redis: &Redis, section: &str, key: &str) -> anyhow::Result<String> {
    let text: String = redis.query(redis::cmd("INFO").arg(section)).await?;
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    Ok(value.with_context(|| format!("INFO {section} says no {key}"))?.trim().to_owned())
}
