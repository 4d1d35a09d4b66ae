//! What a caller may do: by its key or its token, or everything where nobody asks for one.

use std::{sync::Arc, time::Duration};

use browserfleet_common::{error_code::ErrorCode, ids::Principal};
use browserfleet_tools::{CATALOGUE, Group, Groups, Scope, Tool};

use crate::{
    config::{Config, Tools},
    failure::Failure,
    keys::{Origins, Record},
    limits::Limits,
    oauth::Resource,
};

/// What a caller may do.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) principal: Principal,
    credential: Credential,
    scopes: Vec<Scope>,
    /// None: all.
    groups: Option<Vec<Group>>,
    pub(crate) limits: Limits,
    /// Where its pages may go.
    pub(crate) origins: Origins,
    /// Groups of tools that the server serves.
    served: Tools,
    /// Groups of tools that its URL asks for; none: it says nothing of them.
    pub(crate) asked: Option<Groups>,
}

/// What a caller has shown.
#[derive(Clone, Debug)]
enum Credential {
    /// Nothing: nobody asks.
    Nothing,
    /// A key of this id.
    Key(String),
    /// A token.
    Token {
        /// When it stops to be good (wall time).
        until: Duration,
        /// What it is for.
        resource: Arc<Resource>,
    },
}

/// What a token gives its bearer.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) principal: Principal,
    pub(crate) scopes: Vec<Scope>,
    /// None: all.
    pub(crate) groups: Option<Vec<Group>>,
    /// How much of what the settings allow.
    pub(crate) limits: Limits,
    /// When it stops to be good (wall time).
    pub(crate) until: Duration,
    pub(crate) resource: Arc<Resource>,
}

impl Access {
    /// Of everybody, where nobody is asked for a key.
    pub(crate) fn open() -> Arc<Self> {
        Arc::new(Self {
            principal: Principal::anonymous(),
            credential: Credential::Nothing,
            scopes: Scope::ALL.to_vec(),
            groups: None,
            limits: Limits::default(),
            origins: Origins::default(),
            served: Config::default().tools,
            asked: None,
        })
    }

    pub(crate) fn of_key(record: &Record) -> Self {
        Self {
            principal: Principal::of_key(&record.id),
            credential: Credential::Key(record.id.clone()),
            scopes: record.scopes.clone(),
            groups: record.groups.clone(),
            limits: record.limits,
            origins: record.origins.clone(),
            served: Config::default().tools,
            asked: None,
        }
    }

    pub(crate) fn of_token(granted: Granted) -> Self {
        let Granted { principal, scopes, groups, limits, until, resource } = granted;
        Self {
            principal,
            credential: Credential::Token { until, resource },
            scopes,
            groups,
            limits,
            origins: Origins::default(),
            served: Config::default().tools,
            asked: None,
        }
    }

    /// The same, with the limits that hold under these settings: an operator's word about a key counts, be it more or less than
    /// others have; an issuer's about a token only where it is less.
    #[must_use]
    pub(crate) fn under(self, config: &Config) -> Self {
        let limits = match &self.credential {
            Credential::Nothing => self.limits,
            Credential::Key(_) => self.limits.or(config.limits),
            Credential::Token { .. } => config.most().narrowed_by(self.limits),
        };
        Self { limits, ..self }
    }

    /// The same, where the server serves these groups of tools.
    #[must_use]
    pub(crate) fn served(self, served: Tools) -> Self {
        Self { served, ..self }
    }

    /// The same, where a URL asks for these groups of tools.
    #[must_use]
    pub(crate) fn asking(self, asked: Option<Groups>) -> Self {
        Self { asked, ..self }
    }

    /// The same, over the way that another one came.
    #[must_use]
    pub(crate) fn coming_as(self, other: &Self) -> Self {
        Self { served: other.served, asked: other.asked, ..self }
    }

    /// The id of the key it came with.
    pub(crate) fn key(&self) -> Option<&str> {
        match &self.credential {
            Credential::Key(id) => Some(id),
            Credential::Nothing | Credential::Token { .. } => None,
        }
    }

    /// Whether it is somebody's, and not everybody's.
    pub(crate) fn is_somebodys(&self) -> bool {
        !matches!(self.credential, Credential::Nothing)
    }

    /// Whether it came with a token that is not good any more at `now` (wall time).
    pub(crate) fn has_expired(&self, now: Duration) -> bool {
        matches!(self.credential, Credential::Token { until, .. } if now >= until)
    }

    /// What its token is for, if it came with one: whoever lacks a scope is told how to get it.
    pub(crate) fn resource(&self) -> Option<&Resource> {
        match &self.credential {
            Credential::Token { resource, .. } => Some(resource),
            Credential::Nothing | Credential::Key(_) => None,
        }
    }

    /// Whether it allows nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.scopes.is_empty()
    }

    /// The scope that a tool needs, if this is what is missing.
    pub(crate) fn lacks(&self, tool: &Tool) -> Option<Scope> {
        (!self.scopes.contains(&tool.scope)).then_some(tool.scope)
    }

    /// Whether it sees what operators see.
    pub(crate) fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }

    /// Whether it may use a tool.
    pub(crate) fn allows(&self, tool: &Tool) -> bool {
        self.missing(tool).is_none()
    }

    /// Whether it shows the tools that another one shows.
    pub(crate) fn allows_the_same_tools_as(&self, other: &Self) -> bool {
        CATALOGUE.iter().all(|tool| self.allows(tool) == other.allows(tool))
    }

    /// Whether it is shown the slim profile only, beside what it asks for.
    pub(crate) fn is_slim(&self) -> bool {
        self.asked.unwrap_or(self.served.caps).is_slim()
    }

    /// The groups of tools that are served to it.
    pub(crate) fn groups(&self) -> Groups {
        let asked = self.asked.unwrap_or(self.served.caps).and(Groups::ALWAYS);
        let allowed = |group: &Group| Groups::ALWAYS.has(*group) || self.served.allowed.has(*group);
        let of_key = |group: &Group| self.groups.as_ref().is_none_or(|groups| groups.contains(group));
        asked.iter().filter(allowed).filter(of_key).collect()
    }

    /// Refuses a tool it may not use. The text says what would be needed, and nothing of what there is.
    pub(crate) fn check(&self, tool: &Tool) -> Result<(), Failure> {
        self.missing(tool).map_or(Ok(()), |missing| Err(self.refusal(missing)))
    }

    /// As [`Self::check`], of what a tool of another group does as well: its URL need not ask for this group.
    pub(crate) fn check_part(&self, part: &Tool) -> Result<(), Failure> {
        match self.missing(part) {
            None | Some(Missing::OfUrl(_) | Missing::OfProfile) => Ok(()),
            Some(missing) => Err(self.refusal(missing)),
        }
    }

    fn refusal(&self, missing: Missing) -> Failure {
        let whose = if self.resource().is_some() { "token" } else { "key" };
        Failure::new(ErrorCode::Forbidden, missing.told(whose))
    }

    fn missing(&self, tool: &Tool) -> Option<Missing> {
        let group = tool.group;
        if let Some(scope) = self.lacks(tool) {
            return Some(Missing::Scope(scope));
        }
        if self.groups.as_ref().is_some_and(|groups| !groups.contains(&group)) {
            return Some(Missing::OfKey(group));
        }
        if Groups::ALWAYS.has(group) {
            return (self.is_slim() && !tool.is_slim()).then_some(Missing::OfProfile);
        }
        if !self.served.allowed.has(group) {
            return Some(Missing::OfServer(group));
        }
        let shown = self.asked.unwrap_or(self.served.caps).has(group);
        (!shown).then_some(Missing::OfUrl(group))
    }
}

/// Why a tool may not be used. The text says how it could be.
#[derive(Clone, Copy, Debug)]
enum Missing {
    Scope(Scope),
    OfKey(Group),
    OfServer(Group),
    OfUrl(Group),
    OfProfile,
}

impl Missing {
    /// For whoever came with a key, or a token.
    fn told(self, whose: &str) -> String {
        match self {
            Self::Scope(scope) => format!("Your {whose} does not allow this: it needs the scope {scope}."),
            Self::OfKey(group) => format!("Your {whose} does not allow this: it needs the tool group {group}."),
            Self::OfServer(group) => {
                format!("This server does not allow this: its operator has left the tool group {group} out.")
            }
            Self::OfProfile => {
                let text = "This tool is not in the slim profile of this connection: connect to /mcp?caps=core for all of them.";
                text.to_owned()
            }
            Self::OfUrl(group) => format!(
                "The tool group {group} is not served on this connection: connect to /mcp?caps={group} (several are parted by \
                 commas), or start the server with --caps={group}."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use browserfleet_tools::find;

    use super::*;

    #[test]
    fn a_group_is_served_if_server_key_and_url_agree() {
        let mut tool = *find("browser_snapshot").unwrap();
        tool.group = Group::Pdf;
        let (none, pdf) = (Groups::default(), Groups::from_iter([Group::Pdf]));
        let open = || Access::clone(&Access::open());
        let told = |caps, allowed, asked| {
            let access = open().served(Tools { caps, allowed }).asking(asked);
            access.check(&tool).map_or_else(|failure| failure.message, |()| String::new())
        };
        assert!(told(none, Groups::ALL, None).contains("/mcp?caps=pdf"));
        assert!(told(pdf, Groups::ALL, Some(none)).contains("/mcp?caps=pdf"));
        assert_eq!(told(none, Groups::ALL, Some(pdf)), "");
        assert_eq!(told(pdf, Groups::ALL, None), "");
        assert!(told(pdf, none, Some(pdf)).contains("This server does not allow this"));
        let hover = find("browser_hover").unwrap();
        let slim = |asked| open().served(Tools { caps: Groups::SLIM, allowed: Groups::ALL }).asking(asked);
        assert!(slim(None).check(hover).unwrap_err().message.contains("/mcp?caps=core"));
        assert!(slim(None).allows(find("browser_click").unwrap()) && slim(Some(none)).allows(hover));
        assert!(slim(Some(Groups::SLIM.and(pdf))).allows(&tool), "other groups are served beside it");
        let core = find("browser_snapshot").unwrap();
        assert!(
            open().served(Tools { caps: none, allowed: none }).asking(Some(none)).allows(core),
            "core is always served"
        );
    }
}
