//! What a caller's key may allow it: scopes and groups of tools, by the names that people write.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! names {
    ($(#[doc = $head:literal])+ $kind:ident, $what:literal { $($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)+ }) => {
        $(#[doc = $head])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum $kind {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl $kind {
            /// Every one there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name, as people write it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $kind {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                let found = Self::ALL.iter().copied().find(|one| one.name() == text);
                found.ok_or_else(|| UnknownName { what: $what, known: Self::ALL.iter().map(|one| one.name()).collect() })
            }
        }

        impl TryFrom<String> for $kind {
            type Error = UnknownName;

            fn try_from(text: String) -> Result<Self, UnknownName> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(one: $kind) -> Self {
                one.name().to_owned()
            }
        }
    };
}

/// A name that is none of ours. The text says which there are; what was written is not repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    what: &'static str,
    known: Vec<&'static str>,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no such {}; there are {}", self.what, self.known.join(", "))
    }
}

impl std::error::Error for UnknownName {}

names! {
    /// What a key allows. Each tool needs exactly one; none includes another.
    Scope, "scope" {
        /// Going to pages and looking at them; one's own sessions and tabs.
        Read = "browser:read";
        /// Doing something on a page: clicking, typing, answering dialogs.
        Act = "browser:act";
        /// Running one's own scripts in a page, and what sites store in the browser.
        Evaluate = "browser:evaluate";
        /// Giving files to a page.
        Files = "browser:files";
        /// What operators see: everybody's sessions, metrics, details of health. No tool needs it.
        Admin = "admin";
    }
}

names! {
    /// What a tool belongs to; servers, keys and URLs choose groups. The names are Playwright MCP's capabilities, but for the last
    /// one, which is ours.
    Group, "group of tools" {
        /// Pages.
        Core = "core";
        /// Sessions.
        Session = "session";
        /// Cookies, local and session storage.
        Storage = "storage";
        /// Assertions about a page, and locators for tests.
        Testing = "testing";
        /// The mouse by coordinates.
        Vision = "vision";
        /// Answering requests in the place of servers, being offline.
        Network = "network";
        /// Pages as PDF.
        Pdf = "pdf";
        /// Helps for people who look at the page.
        Devtools = "devtools";
        /// What the server is set to.
        Config = "config";
        /// For agents that work by plan: many steps in one call, values by schema.
        Automation = "automation";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for &scope in Scope::ALL {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        for &group in Group::ALL {
            assert_eq!(group.to_string().parse(), Ok(group));
        }
        let told = "secret:thing".parse::<Scope>().unwrap_err().to_string();
        assert!(told.contains("browser:evaluate") && !told.contains("secret:thing"), "{told}");
    }
}
