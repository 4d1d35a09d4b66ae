//! Which session a call belongs to, and making it exist.
//!
//! First match wins: the `session_id` argument, the `X-Session-ID` header, the default session of the connection (stdio
//! has one too). A modern call with none of them gets a new session from tools that may create one.

use std::{sync::Arc, time::Duration};

use browserfleet_common::{egress::Egress, error_code::ErrorCode, ids::SessionName};
use browserfleet_tools::{Arguments as _, Evaluate, Open, SESSION_ID, SessionUse, SetStorageState, Tool};
use serde_json::{Map, Value};

use crate::{
    access::Access,
    caller::Caller,
    core::Core,
    failure::Failure,
    session::{Created, Full, Key, Limits, NewSession, Record},
};

/// What a call says about its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Named by argument or header.
    Named(SessionName),
    /// The connection's own.
    Default(SessionName),
    /// Nothing at all, and this call creates one: so it will be called. Nobody else knows the name.
    Minted(SessionName),
    /// Nothing at all.
    Unnamed,
}

impl Choice {
    /// Gives a call that names no session, and may create one, the name of its own.
    pub(super) fn for_use(self, session: SessionUse) -> Self {
        match self {
            Self::Unnamed if session == SessionUse::Creates => Self::Minted(SessionName::mint()),
            choice => choice,
        }
    }
}

/// Reads a call's choice, and takes the argument out: the tools do not know it.
pub(super) fn choose(caller: &Caller, arguments: &mut Map<String, Value>) -> Result<Choice, Failure> {
    let argument = match arguments.remove(SESSION_ID) {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name),
        Some(_) => return Err(malformed(SESSION_ID, "it must be a text")),
    };
    let named = argument.map(|name| (SESSION_ID, name));
    let named = named.or_else(|| caller.session_header.clone().map(|name| ("The X-Session-ID header", name)));
    if let Some((origin, name)) = named {
        let name = SessionName::parse(&name).map_err(|error| malformed(origin, &error.to_string()))?;
        return Ok(Choice::Named(name));
    }
    Ok(caller.connection.as_ref().map_or(Choice::Unnamed, |own| Choice::Default(own.default_session.clone())))
}

/// The session that a call names, for people: whether the name is one is found out later.
pub(super) fn named(caller: &Caller, arguments: &Map<String, Value>) -> Option<SessionName> {
    let named = arguments.get(SESSION_ID).and_then(Value::as_str).or(caller.session_header.as_deref());
    match named {
        Some(name) => SessionName::parse(name).ok(),
        None => caller.connection.as_ref().map(|connection| connection.default_session.clone()),
    }
}

/// Refuses a session that begins with logins or scripts where its caller may not bring any: that is what other tools do.
pub(super) fn may_begin(access: &Access, tool: &Tool, arguments: &Map<String, Value>) -> Result<(), Failure> {
    if tool.name != Open::TOOL {
        return Ok(());
    }
    for (argument, part) in [("storage_state", SetStorageState::TOOL), ("init_scripts", Evaluate::TOOL)] {
        let given = arguments.get(argument).is_some_and(|value| !value.is_null());
        if let Some(part) = browserfleet_tools::find(part).filter(|_| given) {
            access.check_part(part)?;
        }
    }
    Ok(())
}

/// Reads what a call says about the session's way out, and takes it out of the arguments: it may hold a password, and
/// reaches the daemon with the lease.
pub(super) fn egress(tool: &Tool, arguments: &mut Map<String, Value>) -> Result<Option<Egress>, Failure> {
    if tool.name != Open::TOOL {
        return Ok(None);
    }
    let invalid = |what: String| Failure::new(ErrorCode::InvalidArgument, what);
    let open: Open =
        browserfleet_tools::parse(Value::Object(arguments.clone())).map_err(|error| invalid(error.to_string()))?;
    for argument in ["allowed_origins", "blocked_origins", "proxy_server"] {
        arguments.remove(argument);
    }
    let Open { allowed_origins, blocked_origins, proxy_server, .. } = open;
    if allowed_origins.is_none() && blocked_origins.is_none() && proxy_server.is_none() {
        return Ok(None);
    }
    let egress = Egress {
        allowed_origins: allowed_origins.unwrap_or_default(),
        blocked_origins: blocked_origins.unwrap_or_default(),
        proxy_server,
    };
    egress.rules().map_err(|bad| invalid(bad.to_string()))?;
    Ok(Some(egress))
}

fn malformed(origin: &str, why: &str) -> Failure {
    Failure::new(ErrorCode::InvalidArgument, format!("{origin} is not valid: {why}."))
}

/// Finds the session of a call, creating it where that is allowed, and the call is `fit` to run in one.
pub(super) async fn open(
    core: &Arc<Core>,
    caller: &Caller,
    choice: Choice,
    egress: Option<Egress>,
    fit: &Result<(), Failure>,
) -> Result<Record, Failure> {
    match choice {
        Choice::Named(name) => {
            let may_create = !name.is_handle();
            let record = open_named(core, caller, (name, may_create, None), egress, fit).await?;
            remember(core, caller, &record).await?;
            Ok(record)
        }
        Choice::Default(name) => {
            let connection = caller.connection.as_ref().map(|connection| connection.key.id.clone());
            open_named(core, caller, (name, true, connection), egress, fit).await
        }
        Choice::Minted(name) => {
            fit.clone()?;
            let record = create(core, caller, name, None, egress.unwrap_or_default()).await?;
            remember(core, caller, &record).await?;
            Ok(record)
        }
        Choice::Unnamed => Err(Failure::new(
            ErrorCode::InvalidArgument,
            "This call names no session. Call browser_open or browser_navigate first, then pass the session_id of its \
             reply.",
        )),
    }
}

/// Finds the session of a call without creating one. `None`: there is none, and that is nobody's mistake.
pub(super) async fn find(core: &Arc<Core>, caller: &Caller, choice: Choice) -> Result<Option<Record>, Failure> {
    let (Choice::Named(name) | Choice::Default(name)) = choice else {
        return Err(Failure::new(
            ErrorCode::InvalidArgument,
            "This call names no session. Pass the session_id of the session it is about.",
        ));
    };
    let named_handle = name.is_handle() && caller.connection.as_ref().is_none_or(|own| own.default_session != name);
    let record = look_up(core, caller, &Key { principal: caller.principal.clone(), name }).await?;
    if record.is_none() && named_handle { Err(Failure::no_such_session()) } else { Ok(record) }
}

/// A session that lives, or lapsed and left a checkpoint: then it lives again.
async fn look_up(core: &Arc<Core>, caller: &Caller, key: &Key) -> Result<Option<Record>, Failure> {
    if let Some(record) = core.sessions.touch(key).await? {
        return Ok(Some(record));
    }
    let limits = limits(core, caller);
    let (_, max_lifetime) = lifetimes(core, &caller.access);
    let revived = core.sessions.revive(key, limits, max_lifetime).await?;
    revived.map(|revived| admitted(revived, limits)).transpose()
}

/// The session of a name, which may be created or not, for a connection or none.
async fn open_named(
    core: &Arc<Core>,
    caller: &Caller,
    (name, may_create, connection): (SessionName, bool, Option<String>),
    egress: Option<Egress>,
    fit: &Result<(), Failure>,
) -> Result<Record, Failure> {
    let key = Key { principal: caller.principal.clone(), name };
    if let Some(record) = look_up(core, caller, &key).await? {
        return unchanged(record, egress.as_ref());
    }
    // A connection may say its own default session's handle before, or after, the session exists.
    let own = caller.connection.as_ref().filter(|own| own.default_session == key.name);
    if !may_create && own.is_none() {
        return Err(Failure::no_such_session());
    }
    fit.clone()?;
    let connection = connection.or_else(|| own.map(|own| own.key.id.clone()));
    let record = create(core, caller, key.name, connection, egress.clone().unwrap_or_default()).await?;
    unchanged(record, egress.as_ref())
}

/// A session's way out is settled when it is created: a browser may be there already.
fn unchanged(record: Record, egress: Option<&Egress>) -> Result<Record, Failure> {
    if egress.is_none_or(|egress| *egress == record.egress) {
        return Ok(record);
    }
    Err(Failure::new(
        ErrorCode::InvalidArgument,
        "allowed_origins, blocked_origins and proxy_server are settled when a session is created, and this one exists \
         already with others. End it with session_close, or open another one.",
    ))
}

async fn create(
    core: &Arc<Core>,
    caller: &Caller,
    name: SessionName,
    connection: Option<String>,
    egress: Egress,
) -> Result<Record, Failure> {
    let (idle_ttl, max_lifetime) = lifetimes(core, &caller.access);
    let new = NewSession {
        key: Key { principal: caller.principal.clone(), name },
        connection,
        client: caller.client.clone(),
        egress,
        idle_ttl,
        max_lifetime,
    };
    let limits = limits(core, caller);
    admitted(core.sessions.create(new, limits).await?, limits)
}

/// After how long without a call a caller's sessions end, and after how long in any case: never later than everybody's.
pub(super) fn lifetimes(core: &Core, access: &Access) -> (Duration, Duration) {
    let (settings, limits) = (&core.config.session, &access.limits);
    let within = |limit: Option<Duration>, most: Duration| limit.map_or(most, |limit| limit.min(most));
    let lifetime = within(limits.session_lifetime, settings.max_lifetime);
    (within(limits.session_idle, settings.idle_ttl).min(lifetime), lifetime)
}

/// How many sessions a caller may have.
fn limits(core: &Core, caller: &Caller) -> Limits {
    let settings = &core.config.session;
    let per_principal = caller.access.limits.sessions.unwrap_or(settings.per_principal);
    Limits { per_principal, total: settings.max_total }
}

fn admitted(created: Created, limits: Limits) -> Result<Record, Failure> {
    match created {
        Created::Fresh(record) | Created::Existing(record) => Ok(record),
        Created::Full(Full::Principal) => Err(Failure::new(
            ErrorCode::QuotaExceeded,
            format!(
                "You have {} open sessions, the most allowed. End one with session_close, or use one you have.",
                limits.per_principal
            ),
        )),
        Created::Full(Full::Total) => Err(Failure::new(
            ErrorCode::QuotaExceeded,
            "This server has as many open sessions as it allows. Try again later, or end a session with session_close.",
        )),
    }
}

/// A connection's list shows what its calls have named.
async fn remember(core: &Arc<Core>, caller: &Caller, record: &Record) -> Result<(), Failure> {
    match &caller.connection {
        Some(connection) if !connection.knows(&record.name) => {
            Ok(core.connections.remember(&connection.key, &record.name).await?)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use browserfleet_common::ids::Principal;
    use serde_json::json;

    use super::*;
    use crate::{access::Access, connection, session::Client};

    fn caller(header: Option<&str>, default: Option<&SessionName>) -> Caller {
        let connection = default.map(|default| {
            let key = connection::Key { principal: Principal::anonymous(), id: "c".to_owned() };
            Arc::new(connection::Record {
                key,
                initialize: json!({}),
                caps: None,
                client: Client::default(),
                default_session: default.clone(),
                sessions: Vec::new(),
                created: Duration::ZERO,
                last_seen: Duration::ZERO,
            })
        });
        let session_header = header.map(str::to_owned);
        Caller {
            principal: Principal::anonymous(),
            access: Access::open(),
            connection,
            session_header,
            client: Client::default(),
            trace: None,
        }
    }

    fn chosen(caller: &Caller, arguments: &Value) -> Result<Choice, ErrorCode> {
        let mut arguments = arguments.as_object().unwrap().clone();
        let choice = choose(caller, &mut arguments).map_err(|failure| failure.code);
        assert!(!arguments.contains_key(SESSION_ID), "tools do not see it");
        choice
    }

    #[test]
    fn argument_then_header_then_connection() {
        let default = SessionName::mint();
        let named = |name: &str| Ok(Choice::Named(SessionName::parse(name).unwrap()));
        let all = caller(Some("from-header"), Some(&default));
        assert_eq!(chosen(&all, &json!({ "session_id": "from-argument", "url": "x" })), named("from-argument"));
        assert_eq!(chosen(&all, &json!({ "session_id": null })), named("from-header"));
        assert_eq!(chosen(&caller(None, Some(&default)), &json!({})), Ok(Choice::Default(default)));
        assert_eq!(chosen(&caller(None, None), &json!({})), Ok(Choice::Unnamed));
    }

    #[test]
    fn malformed_names_are_refused_wherever_they_come_from() {
        for bad in ["", "a b", "a/../b", "é", "a\r\nb", "*", &"x".repeat(65)] {
            assert_eq!(chosen(&caller(None, None), &json!({ "session_id": bad })), Err(ErrorCode::InvalidArgument));
            assert_eq!(chosen(&caller(Some(bad), None), &json!({})), Err(ErrorCode::InvalidArgument));
        }
        assert_eq!(chosen(&caller(None, None), &json!({ "session_id": 7 })), Err(ErrorCode::InvalidArgument));
    }
}
