//! Values that calls type and nobody is shown: bound to origins, known for one call.

use std::fmt;

use browserfleet_common::{egress::Origin, error_code::ErrorCode, pb};
use browserfleet_tools::secrets::{filled, names};
use url::Url;

use crate::failure::Failure;

/// Most secrets of a call.
const MAX_SECRETS: usize = 100;

/// A value, and where it may be typed.
struct Secret {
    name: String,
    value: String,
    origins: Vec<Origin>,
}

/// The secrets of a call. Their values are in no text of this type.
#[derive(Default)]
pub struct Secrets(Vec<Secret>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|secret| &secret.name)).finish()
    }
}

/// Where a text may be typed: wherever all of its secrets may.
pub struct Bound<'a>(Vec<&'a Secret>);

impl fmt::Debug for Bound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|secret| &secret.name)).finish()
    }
}

impl Secrets {
    /// As a front end sends them.
    ///
    /// # Errors
    /// When there are too many, or one is bound to no origin.
    pub fn of(wire: Vec<pb::Secret>) -> Result<Self, Failure> {
        if wire.len() > MAX_SECRETS {
            return Err(Failure::invalid(format!("a call may use {MAX_SECRETS} secrets")));
        }
        let secret = |pb::Secret { name, value, origins }: pb::Secret| {
            let parsed: Result<Vec<_>, _> = origins.iter().map(|origin| Origin::parse(origin)).collect();
            match parsed {
                Ok(origins) if !origins.is_empty() => Ok(Secret { name, value, origins }),
                _ => Err(Failure::invalid(format!("the secret {name} is not bound to origins"))),
            }
        };
        wire.into_iter().map(secret).collect::<Result<_, _>>().map(Self)
    }

    /// A text as it is to be typed, and where it may be.
    ///
    /// # Errors
    /// When it refers to a secret that there is not.
    pub fn fill(&self, text: &str) -> Result<(String, Bound<'_>), Failure> {
        let find = |name: &str| self.0.iter().find(|secret| secret.name == name);
        let bound: Option<Vec<_>> = names(text).into_iter().map(find).collect();
        let filled = filled(text, |name| find(name).map(|secret| secret.value.as_str()));
        match (bound, filled) {
            (Some(bound), Some(filled)) => Ok((filled, Bound(bound))),
            _ => Err(Failure::invalid("the text refers to a secret that there is not")),
        }
    }
}

impl Bound<'_> {
    /// Whether it may be typed anywhere.
    pub fn is_free(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses an origin where one of them may not be typed.
    ///
    /// # Errors
    /// With what it may not be.
    pub fn check(&self, origin: &str) -> Result<(), Failure> {
        let place = Url::parse(origin).ok();
        let at = place.as_ref().and_then(|url| {
            let host = url.host_str()?.trim_end_matches('.').to_owned();
            Some((host, url.port_or_known_default()?))
        });
        let allowed = |secret: &Secret| {
            at.as_ref().is_some_and(|(host, port)| secret.origins.iter().any(|origin| origin.matches(host, *port)))
        };
        match self.0.iter().find(|secret| !allowed(secret)) {
            None => Ok(()),
            Some(secret) => {
                let shown: String = origin.chars().filter(char::is_ascii_graphic).take(200).collect();
                let message = format!("the secret {} may not be typed at {shown}; nothing was typed", secret.name);
                Err(Failure::new(ErrorCode::Forbidden, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        let secret = |name: &str, origin: &str| pb::Secret {
            name: name.to_owned(),
            value: format!("value of {name}"),
            origins: vec![origin.to_owned()],
        };
        Secrets::of(vec![secret("A", "https://a.example"), secret("B", "*.b.example")]).unwrap()
    }

    #[test]
    fn a_secret_is_typed_where_it_may_be_and_nowhere_else() {
        let secrets = secrets();
        let (text, bound) = secrets.fill("<${secret:A}>").unwrap();
        assert_eq!(text, "<value of A>");
        assert!(bound.check("https://a.example").is_ok());
        for elsewhere in ["http://a.example", "https://a.example:8443", "https://a.example.evil", "null", "", "data:x"]
        {
            let refused = bound.check(elsewhere).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Forbidden, "{elsewhere}");
            assert!(!refused.message.contains("value of"), "{refused}");
        }
        let (_, both) = secrets.fill("${secret:A}${secret:B}").unwrap();
        assert!(
            both.check("https://a.example").is_err() && both.check("https://x.b.example").is_err(),
            "one of them is not"
        );
        assert!(secrets.fill("plain").unwrap().1.is_free());
        assert!(secrets.fill("${secret:C}").is_err());
    }

    #[test]
    fn what_is_bound_to_nothing_is_refused_and_nothing_shows_a_value() {
        let free = pb::Secret { name: "A".to_owned(), value: "v".to_owned(), origins: Vec::new() };
        assert!(Secrets::of(vec![free]).is_err());
        assert_eq!(format!("{:?} {:?}", secrets(), secrets().fill("${secret:A}").unwrap().1), "[\"A\", \"B\"] [\"A\"]");
    }
}
