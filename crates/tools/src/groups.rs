//! Sets of groups of tools, as settings and URLs name them.

use serde::{Deserialize, Serialize};

use crate::{Group, UnknownName};

/// Stands for every group there is.
const ALL: &str = "all";

/// Groups of tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<Group>")]
pub struct Groups(u16);

impl Groups {
    /// Every group there is.
    pub const ALL: Self = Self((1 << Group::ALL.len()) - 1);

    /// What is served to whoever asks for nothing, and beside what is asked for.
    pub const ALWAYS: Self = Self(Self::bit(Group::Core) | Self::bit(Group::Session));

    const fn bit(group: Group) -> u16 {
        1 << group as u16
    }

    /// Reads names, with `all` for all of them.
    ///
    /// # Errors
    /// When one is none of ours.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownName> {
        names.into_iter().map(str::trim).filter(|name| !name.is_empty()).try_fold(Self::default(), |groups, name| {
            Ok(groups.and(if name == ALL { Self::ALL } else { Self::from_iter([name.parse::<Group>()?]) }))
        })
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether a group is one of these.
    pub const fn has(self, group: Group) -> bool {
        self.0 & Self::bit(group) != 0
    }

    /// The groups, in the order in which they are known.
    pub fn iter(self) -> impl Iterator<Item = Group> {
        Group::ALL.iter().copied().filter(move |&group| self.has(group))
    }
}

impl FromIterator<Group> for Groups {
    fn from_iter<I: IntoIterator<Item = Group>>(groups: I) -> Self {
        Self(groups.into_iter().fold(0, |bits, group| bits | Self::bit(group)))
    }
}

/// From where they were kept. A name that only a later version knows means nothing to this one.
impl From<Vec<String>> for Groups {
    fn from(names: Vec<String>) -> Self {
        names.iter().filter_map(|name| name.parse::<Group>().ok()).collect()
    }
}

impl From<Groups> for Vec<Group> {
    fn from(groups: Groups) -> Self {
        groups.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_read_and_kept() {
        let some = Groups::parse(["storage", " pdf ", ""]).unwrap();
        assert_eq!(some.iter().collect::<Vec<_>>(), [Group::Storage, Group::Pdf]);
        assert_eq!(serde_json::to_value(some).unwrap(), json!(["storage", "pdf"]));
        assert_eq!(serde_json::from_value::<Groups>(json!(["pdf", "of a later version", "storage"])).unwrap(), some);
        assert_eq!(Groups::parse(["all"]), Ok(Groups::ALL));
        assert!(Groups::ALL.iter().eq(Group::ALL.iter().copied()));
        assert!(Groups::parse(["storage", "nonsense"]).unwrap_err().to_string().contains("testing"));
    }
}
