//! What a caller may do: by its key, or everything where nobody asks for one.

use std::sync::Arc;

use browserfleet_common::{error_code::ErrorCode, ids::Principal};
use browserfleet_tools::{CATALOGUE, Group, Scope, Tool};

use crate::{
    failure::Failure,
    keys::{Limits, Origins, Record},
};

/// What a caller may do.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) principal: Principal,
    /// The id of the key; none where nobody is asked for one.
    key: Option<String>,
    scopes: Vec<Scope>,
    /// None: all.
    groups: Option<Vec<Group>>,
    pub(crate) limits: Limits,
    /// Where its pages may go.
    pub(crate) origins: Origins,
}

impl Access {
    /// Of everybody, where nobody is asked for a key.
    pub(crate) fn open() -> Arc<Self> {
        Arc::new(Self {
            principal: Principal::anonymous(),
            key: None,
            scopes: Scope::ALL.to_vec(),
            groups: None,
            limits: Limits::default(),
            origins: Origins::default(),
        })
    }

    pub(crate) fn of_key(record: &Record) -> Self {
        Self {
            principal: Principal::of_key(&record.id),
            key: Some(record.id.clone()),
            scopes: record.scopes.clone(),
            groups: record.groups.clone(),
            limits: record.limits,
            origins: record.origins.clone(),
        }
    }

    /// The id of the key it came with.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
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

    /// Refuses a tool it may not use. The text says what would be needed, and nothing of what there is.
    pub(crate) fn check(&self, tool: &Tool) -> Result<(), Failure> {
        self.missing(tool).map_or(Ok(()), |missing| {
            Err(Failure::new(ErrorCode::Forbidden, format!("Your key does not allow this: it needs the {missing}.")))
        })
    }

    fn missing(&self, tool: &Tool) -> Option<String> {
        if !self.scopes.contains(&tool.scope) {
            return Some(format!("scope {}", tool.scope));
        }
        let grouped = self.groups.as_ref().is_none_or(|groups| groups.contains(&tool.group));
        (!grouped).then(|| format!("tool group {}", tool.group))
    }
}
