//! Reading a token: who wrote it, for whom, until when. Nothing of it is logged, or goes any further.

use std::{collections::HashSet, time::Duration};

use browserfleet_common::{ids::Principal, metrics::metrics};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, errors::ErrorKind};

use super::{
    claims::Claims,
    issuer::{Issuer, NoKey},
};
use crate::access::{Access, Granted};

/// Longest token, in bytes.
const TOKEN_MAX: usize = 8 << 10;
/// Kinds of tokens that may be one of ours, of those that say one (RFC 9068; most issuers say `JWT`): not that of a logout, nor
/// one that proves something else.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// Why a token lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// It is not good. Why is for operators.
    Invalid(&'static str),
    /// Nobody can say: the issuer does not answer. Worth another try after this time.
    Away(Duration),
}

impl Issuer {
    /// What the bearer of a token may do.
    pub(crate) async fn authenticate(&self, text: &str) -> Result<Access, Rejected> {
        let read = self.read(text).await;
        match &read {
            Ok(_) => metrics().tokens.add("ok"),
            Err(Rejected::Invalid(why)) => {
                tracing::debug!(why, "an access token is not good");
                metrics().tokens.add(*why);
            }
            Err(Rejected::Away(_)) => {}
        }
        read
    }

    async fn read(&self, text: &str) -> Result<Access, Rejected> {
        let settings = self.settings();
        // Size before content: nobody decodes what is too long.
        let header = (text.len() <= TOKEN_MAX).then(|| decode_header(text).ok()).flatten();
        let header = header.filter(is_plain).ok_or(Rejected::Invalid("malformed"))?;
        if !settings.algorithms.contains(&header.alg) {
            return Err(Rejected::Invalid("algorithm"));
        }
        let id = header.kid.as_deref().ok_or(Rejected::Invalid("key"))?;
        let key = self.key(id, header.alg).await.map_err(|none| match none {
            NoKey::Unknown => Rejected::Invalid("key"),
            NoKey::Away(wait) => Rejected::Away(wait),
        })?;
        let token = decode::<Claims>(text, &key, &self.validation(header.alg));
        let claims = token.map_err(|error| Rejected::Invalid(reason(error.kind())))?.claims;
        // The library lets an issuer be one of several.
        if claims.iss != settings.issuer {
            return Err(Rejected::Invalid("issuer"));
        }
        let expires = claims.expires().filter(|_| claims.has_subject()).ok_or(Rejected::Invalid("claims"))?;
        let narrowed = claims.narrowed(&settings.limits_claim).map_err(|why| {
            // Whoever signed it is the issuer: its operator made a mistake, and has to hear of it.
            tracing::warn!(claim = settings.limits_claim, why, "a token's limits cannot be read, so it is not good");
            Rejected::Invalid("claims")
        })?;
        Ok(Access::of_token(Granted {
            principal: Principal::of_token(&claims.iss, &claims.sub),
            scopes: claims.scopes(&settings.scopes),
            groups: narrowed.groups,
            limits: narrowed.limits,
            until: expires.saturating_add(settings.leeway),
            resource: self.resource(),
        }))
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let settings = self.settings();
        let mut validation = Validation::new(algorithm);
        validation.leeway = settings.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&settings.issuer]);
        validation.aud = Some(settings.audience.iter().cloned().collect::<HashSet<_>>());
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation
    }
}

/// Whether a header wants nothing but to be checked. What it names as critical nobody here understands.
fn is_plain(header: &Header) -> bool {
    let known = header.typ.as_ref().is_none_or(|kind| TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known)));
    known && header.crit.is_none()
}

fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "signature",
        ErrorKind::InvalidIssuer => "issuer",
        ErrorKind::InvalidAudience => "audience",
        ErrorKind::ExpiredSignature => "expired",
        ErrorKind::ImmatureSignature => "early",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => "claims",
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm | ErrorKind::InvalidKeyFormat => "algorithm",
        _ => "malformed",
    }
}
