//! What is looked at before a program relies on a Redis: everything wrong is found at once. [`super::Fitness`] looks later, at
//! one that was away.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use redis::{FromRedisValue as _, Value, cmd};
use tokio::time::timeout;

use super::{Error, Keys, Redis, Settings};
use crate::{config::Reader, ids::random_hex};

/// The oldest server whose commands the scripts use.
const LEAST: (u32, u32) = (7, 0);

/// What a program asks of its Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To keep what others find.
    Memory,
    /// That, and messages between programs.
    Messages,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The program would not work, or would lose sessions: it does not start.
    pub problems: Vec<String>,
    /// An operator should know.
    pub warnings: Vec<String>,
    /// It could not be looked at, and why: whether it will do is found out when it answers.
    pub away: Option<String>,
}

/// Looks before a program starts whether its Redis will do. What is wrong is collected in `reader`, with what is wrong
/// elsewhere. One that is away keeps no program from starting: answers why it could not be looked at.
pub fn read(reader: &mut Reader, settings: Option<&Settings>, need: Need) -> Option<String> {
    let settings = settings?;
    // On a runtime of its own: the program's is started when everything is known to be right.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = match runtime {
        Ok(runtime) => runtime.block_on(look_at(&Redis::new(settings.clone()), need)),
        Err(error) => {
            Findings { problems: vec![format!("store.url: cannot be looked at ({error})")], ..Findings::default() }
        }
    };
    for problem in found.problems {
        reader.problem(problem);
    }
    found.away
}

/// Looks at version, eviction and persistence of every server that holds data, and whether messages get through.
pub async fn look_at(redis: &Redis, need: Need) -> Findings {
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
        Err(error) => findings.failed(redis, "", &error),
    }
    if need == Need::Messages
        && findings.away.is_none()
        && findings.problems.is_empty()
        && let Err(error) = message(redis).await
    {
        findings.failed(redis, "messages do not get through: ", &error);
    }
    findings
}

impl Findings {
    /// A question was not answered as it should be: the server says no, or nothing can be said of it.
    fn failed(&mut self, redis: &Redis, what: &str, error: &Error) {
        let address = &redis.settings().address;
        let cause = std::error::Error::source(error).map(|cause| format!(" ({cause})")).unwrap_or_default();
        if error.is_refusal() {
            let fix = "are user and password right, and may it do everything on this deployment's keys and channels?";
            self.problems.push(format!("store.url: {address}: {what}{error}{cause}; {fix}"));
        } else {
            self.away = Some(format!("store.url: {address}: {what}{error}{cause}; is it running?"));
        }
    }
}

/// Sends a message to ourselves: a server may let somebody keep things and not let it publish or subscribe.
async fn message(redis: &Redis) -> Result<(), Error> {
    let limit = redis.settings().command_timeout;
    let channel = Keys::new(&redis.settings().prefix).channel(&format!("check:{}", random_hex()));
    let heard = async {
        let mut listener = redis.subscriber().await?;
        listener.subscribe(&channel).await.map_err(Error::Failed)?;
        redis.query_once::<()>(cmd("PUBLISH").arg(&channel).arg("")).await?;
        let heard = listener.on_message().next().await;
        heard.map(drop).ok_or(Error::Late(limit))
    };
    timeout(limit, heard).await.unwrap_or(Err(Error::Late(limit)))
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
