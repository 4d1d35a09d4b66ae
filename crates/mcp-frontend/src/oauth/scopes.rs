//! What the scopes of a token allow here: an issuer may have names of its own for ours.

use std::collections::HashSet;

use browserfleet_tools::Scope;

/// The issuer's names of our scopes.
#[derive(Clone, Debug)]
pub(super) struct ScopeNames(Vec<(String, Scope)>);

impl Default for ScopeNames {
    /// Our own.
    fn default() -> Self {
        Self(Scope::ALL.iter().map(|scope| (scope.name().to_owned(), *scope)).collect())
    }
}

impl ScopeNames {
    /// Reads `theirs=ours`; what is not there has no name, and so nobody gets it. Nothing: they are our own.
    ///
    /// # Errors
    /// When an entry is none.
    pub(super) fn parse(entries: &[String]) -> Result<Self, String> {
        if entries.iter().all(String::is_empty) {
            return Ok(Self::default());
        }
        let entry = |entry: &String| {
            let (theirs, ours) = entry.rsplit_once('=').ok_or_else(|| format!("{entry:?} is not THEIRS=OURS"))?;
            if theirs.is_empty() || !theirs.bytes().all(is_of_a_scope) {
                return Err(format!("{theirs:?} is no scope of OAuth"));
            }
            Ok((theirs.to_owned(), ours.parse().map_err(|unknown| format!("{entry:?}: {unknown}"))?))
        };
        entries.iter().map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// What these names allow. Those of other servers allow nothing here.
    pub(super) fn allowed<'a>(&self, said: impl Iterator<Item = &'a str>) -> Vec<Scope> {
        let said: HashSet<&str> = said.collect();
        let is_said = |scope: &&Scope| self.0.iter().any(|(name, of)| of == *scope && said.contains(name.as_str()));
        Scope::ALL.iter().filter(is_said).copied().collect()
    }

    /// The name of a scope; our own where the issuer has none.
    pub(super) fn name(&self, scope: Scope) -> &str {
        self.0.iter().find(|(_, of)| *of == scope).map_or(scope.name(), |(name, _)| name)
    }

    /// The names of all scopes that a token can have.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// What agents ask for: everything but what operators see.
    pub(super) fn of_agents(&self) -> String {
        let names = self.0.iter().filter(|(_, scope)| *scope != Scope::Admin).map(|(name, _)| name.as_str());
        names.collect::<Vec<_>>().join(" ")
    }
}

/// RFC 6749, 3.3; so a scope can be in a header without escapes.
fn is_of_a_scope(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entries: &[&str]) -> Result<ScopeNames, String> {
        ScopeNames::parse(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_ours_unless_the_issuer_has_others() {
        let ours = names(&[]).unwrap();
        assert_eq!(
            ours.allowed("openid browser:act admins admin".split(' ')),
            [Scope::Act, Scope::Admin],
            "and nothing that looks alike"
        );
        assert_eq!(ours.of_agents(), "browser:read browser:act browser:evaluate browser:files");
        let theirs = names(&["api://fleet/Look=browser:read", "Use=browser:read", "Use=browser:act"]).unwrap();
        assert_eq!(theirs.allowed("Use browser:files".split(' ')), [Scope::Read, Scope::Act]);
        assert_eq!((theirs.name(Scope::Read), theirs.name(Scope::Files)), ("api://fleet/Look", "browser:files"));
    }

    #[test]
    fn an_entry_that_is_none_is_told() {
        for wrong in ["browser:read", "x=browser:write", "=browser:read", "a b=browser:read", "a\"b=browser:read"] {
            assert!(names(&[wrong]).is_err(), "{wrong}");
        }
    }
}
