//! Sets of groups of tools, as settings and URLs name them.

use serde::{Deserialize, Serialize};

use crate::{Group, UnknownName};

/// Stands for every group there is.
const ALL: &str = "all";

/// Stands for the tools that are enough to browse, in the place of those that are always served.
const SLIM: &str = "slim";

/// Groups of tools, and whether of those that are always served only the slim profile is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<&'static str>")]
pub struct Groups(u16);

impl Groups {
    /// Every group there is.
    pub const ALL: Self = Self((1 << Group::ALL.len()) - 1);

    /// What is served to whoever asks for nothing, and beside what is asked for.
    pub const ALWAYS: Self = Self(Self::bit(Group::Core) | Self::bit(Group::Session));

    /// The slim profile.
    pub const SLIM: Self = Self(1 << 15);

    const fn bit(group: Group) -> u16 {
        1 << group as u16
    }

    /// Reads names, with `all` for all of them and `slim` for the slim profile.
    ///
    /// # Errors
    /// When one is none of ours.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownName> {
        names.into_iter().map(str::trim).filter(|name| !name.is_empty()).try_fold(Self::default(), |groups, name| {
            Ok(groups.and(match name {
                ALL => Self::ALL,
                SLIM => Self::SLIM,
                name => Self::from_iter([name.parse::<Group>()?]),
            }))
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

    /// Whether, of the groups that are always served, only the slim profile is.
    pub const fn is_slim(self) -> bool {
        self.0 & Self::SLIM.0 != 0
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
        let slim = if names.iter().any(|name| name == SLIM) { Self::SLIM } else { Self::default() };
        slim.and(names.iter().filter_map(|name| name.parse::<Group>().ok()).collect())
    }
}

impl From<Groups> for Vec<&'static str> {
    fn from(groups: Groups) -> Self {
        let slim = groups.is_slim().then_some(SLIM);
        slim.into_iter().chain(groups.iter().map(Group::name)).collect()
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
        let slim = Groups::parse(["slim", "pdf"]).unwrap();
        assert!(slim.is_slim() && slim.has(Group::Pdf) && !Groups::ALL.is_slim() && !some.is_slim());
        assert_eq!(serde_json::to_value(slim).unwrap(), json!(["slim", "pdf"]));
        assert_eq!(serde_json::from_value::<Groups>(json!(["slim", "pdf"])).unwrap(), slim);
        assert!(Groups::ALL.iter().eq(Group::ALL.iter().copied()));
        assert!(Groups::parse(["storage", "nonsense"]).unwrap_err().to_string().contains("testing"));
    }
}
