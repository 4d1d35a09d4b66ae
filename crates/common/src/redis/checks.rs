//! What is looked at before a program relies on a Redis: everything wrong is found at once.

use std::collections::HashMap;

use redis::{FromRedisValue as _, Value, cmd};

use super::{Error, Redis, Settings};
use crate::config::Reader;

/// The oldest server whose commands the scripts use.
const LEAST: (u32, u32) = (7, 0);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The program would not work, or would lose sessions: it does not start.
    pub problems: Vec<String>,
    /// An operator should know.
    pub warnings: Vec<String>,
}

/// Looks before a program starts whether its Redis will do. What is wrong is collected in `reader`, with what is wrong
/// elsewhere; answers what an operator should know.
pub fn read(reader: &mut Reader, settings: Option<&Settings>) -> Vec<String> {
    let Some(settings) = settings else { return Vec::new() };
    // On a runtime of its own: the program's is started when everything is known to be right.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = match runtime {
        Ok(runtime) => runtime.block_on(at_start(&Redis::new(settings.clone()))),
        Err(error) => {
            Findings { problems: vec![format!("store.url: cannot be looked at ({error})")], ..Findings::default() }
        }
    };
    for problem in found.problems {
        reader.problem(problem);
    }
    found.warnings
}

/// Looks at version, eviction and persistence of every server that holds data.
pub async fn at_start(redis: &Redis) -> Findings {
    let mut findings = Findings::default();
    let address = &redis.settings().address;
    if !address.is_near() {
        let text = format!("store.url: {address} is reached without encryption: keep it in a private network");
        findings.warnings.push(text);
    }
    match servers(redis).await {
        Ok(servers) if servers.is_empty() => findings.problems.push(format!("store.url: {address} has no server")),
        Ok(servers) => {
            let saves = saves(redis).await;
            for server in &servers {
                look(server, saves, &mut findings);
            }
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
            let text = format!("store.url: {address}: {error}{cause}; is it running, and is the password right?");
            findings.problems.push(text);
        }
    }
    findings
}

/// What `INFO` says, of each server.
type Info = HashMap<String, String>;

async fn servers(redis: &Redis) -> Result<Vec<Info>, Error> {
    let texts = match redis.query(cmd("INFO").arg("everything")).await? {
        // Of a cluster: by the address of each node.
        Value::Map(nodes) => nodes.into_iter().map(|(_, text)| text).collect(),
        text => vec![text],
    };
    let texts: Result<Vec<String>, _> = texts.into_iter().map(String::from_redis_value).collect();
    let texts = texts.map_err(|_malformed| Error::Strange("a description of itself"))?;
    let info = texts.iter().map(|text| info(text)).collect::<Vec<Info>>();
    Ok(info.into_iter().filter(|info| says(info, "role") == Some("master")).collect())
}

fn info(text: &str) -> Info {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

fn says<'a>(info: &'a Info, key: &str) -> Option<&'a str> {
    info.get(key).map(String::as_str)
}

/// Whether it writes snapshots by itself; `None`: it does not let us ask, as managed ones do not.
async fn saves(redis: &Redis) -> Option<bool> {
    let answer: HashMap<String, String> = redis.query(cmd("CONFIG").arg("GET").arg("save")).await.ok()?;
    answer.get("save").map(|points| !points.is_empty())
}

fn look(info: &Info, saves: Option<bool>, findings: &mut Findings) {
    let version = says(info, "redis_version").unwrap_or_default();
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(LEAST.0), Some(LEAST.1)) {
        let text = format!("store.url: Redis {version} is too old; {}.{} or newer is needed", LEAST.0, LEAST.1);
        findings.problems.push(text);
    }
    let policy = says(info, "maxmemory_policy").unwrap_or("noeviction");
    if policy != "noeviction" && says(info, "maxmemory") != Some("0") {
        findings.problems.push(format!(
            "store.url: Redis ends sessions when its memory is full (maxmemory-policy {policy}): set maxmemory-policy noeviction"
        ));
    }
    let appends = says(info, "aof_enabled") == Some("1");
    let replicas = says(info, "connected_slaves").is_some_and(|count| count != "0");
    if !appends && !replicas && saves != Some(true) {
        findings.warnings.push(
            "store.url: Redis keeps everything in memory only (no AOF, no snapshots, no replica): when it restarts, running \
             sessions are known to their daemons only, and logins of clients are lost; set appendonly yes"
                .to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, saves: Option<bool>) -> (usize, usize) {
        let mut findings = Findings::default();
        look(&info(text), saves, &mut findings);
        (findings.problems.len(), findings.warnings.len())
    }

    #[test]
    fn old_forgetful_and_evicting_servers_are_found() {
        let good = "redis_version:7.0.15\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";
        assert_eq!(found(good, None), (0, 0));
        assert_eq!(found(&good.replace("7.0.15", "6.2.14"), None), (1, 0));
        assert_eq!(found(&good.replace("7.0.15", "10.1.0"), None), (0, 0));
        assert_eq!(
            found(&good.replace("noeviction", "allkeys-lru"), None),
            (0, 0),
            "without a limit nothing is evicted"
        );
        assert_eq!(found(&good.replace("noeviction", "volatile-ttl").replace(":0", ":1000"), None), (1, 0));
        assert_eq!(found(&good.replace("aof_enabled:1", "aof_enabled:0"), None), (0, 1));
        assert_eq!(found(&good.replace("aof_enabled:1", "aof_enabled:0"), Some(true)), (0, 0));
        assert_eq!(found("", None), (1, 1), "a server that says nothing is not trusted");
    }
}
