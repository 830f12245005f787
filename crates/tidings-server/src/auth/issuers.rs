//! Tokens: which issuer's one is, whether it is good, and what it opens.
//!
//! A token's `iss` chooses among the configured issuers, those without an `issuer` are asked as
//! well; what it says is believed once the signature of that issuer's key fits. What is open then
//! are the issuer's patterns, filled from the claims. A token may narrow them for itself:
//!
//! ```json
//! {"sub": "a", "exp": 1700000000, "tidings": {"publish": ["shop/*"], "read": ["shop/**"]}}
//! ```
//!
//! What it asks for beyond its issuer's patterns it does not get.

use serde_json::Value;
use tidings_adapter::jwt::{
    Checks, Claims, KeyError, KeySet, KeySetOptions, TOKEN_BYTES_MAX, TokenError, Unverified,
    Verifier,
};
use tidings_core::{Now, TopicPattern};

use super::rate::{Budgets, Rate};
use super::rights::{Open, Rights, Who};
use super::template::Template;
use crate::config::issuers::Issuer as Settings;
use crate::problem::{Cause, Problem};

/// Patterns of one list in a token. Each is looked at for every event; the token's own size bounds
/// them to about so many anyway.
const PATTERNS_MAX: usize = 100;

/// All issuers.
#[derive(Debug, Default)]
pub struct Issuers(Vec<Issuer>);

#[derive(Debug)]
struct Issuer {
    name: String,
    verifier: Verifier,
    rights_claim: String,
    publish: Vec<Template>,
    read: Vec<Template>,
    budgets: Option<Budgets>,
}

/// Why a token opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No issuer that is known here has this `iss`.
    #[error("the token's issuer is not known here")]
    Issuer,
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The claim that narrows the rights is not understood.
    #[error("the token's claim for rights is no object with lists of patterns in publish and read")]
    Rights,
}

impl Issuers {
    /// As configured. Begins to fetch keys.
    ///
    /// # Errors
    /// [`KeyError`] when given keys or a file cannot be used (any more: the configuration's check
    /// has looked at them, too).
    ///
    /// # Panics
    /// With an issuer whose keys are in a file or at an address, outside of a tokio runtime.
    pub fn new(settings: &[Settings]) -> Result<Self, KeyError> {
        let issuers = settings.iter().map(Issuer::new);
        Ok(Self(issuers.collect::<Result<_, _>>()?))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a token opens now.
    ///
    /// # Errors
    /// [`Refusal`]: of several issuers that may have made it, the one that says most.
    pub async fn identify(&self, token: &str, now: Now) -> Result<Rights, Refusal> {
        let claimed = Unverified::parse(token, TOKEN_BYTES_MAX)?;
        let claimed = claimed.claims().get("iss").and_then(Value::as_str);
        let mut worst = Refusal::Issuer;
        for issuer in &self.0 {
            let expected = issuer.verifier.checks().issuer.as_deref();
            if expected.is_some() && expected != claimed {
                continue;
            }
            match issuer.verifier.verify(token, now.unix_ms).await {
                Ok(claims) => return issuer.rights(&claims, now),
                Err(error) => {
                    tracing::debug!(issuer = issuer.name, %error, "a token was refused");
                    if telling(&error.into()) > telling(&worst) {
                        worst = error.into();
                    }
                }
            }
        }
        Err(worst)
    }

    /// The names of all, and how many keys each has at present.
    pub fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0
            .iter()
            .map(|issuer| (issuer.name.as_str(), issuer.verifier.keys().len()))
    }
}

/// How much a refusal says: one whose signature fitted is about this token.
fn telling(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::Issuer => 0,
        Refusal::Token(TokenError::Algorithm | TokenError::Malformed) => 1,
        Refusal::Token(TokenError::UnknownKey) => 2,
        Refusal::Token(TokenError::Signature) => 3,
        // It may be a good one: told apart, so that its sender tries again.
        Refusal::Token(TokenError::KeysUnavailable) => 4,
        Refusal::Token(_) | Refusal::Rights => 5,
    }
}

impl Issuer {
    fn new(settings: &Settings) -> Result<Self, KeyError> {
        if settings.jwks_url.is_some() && settings.audience.is_empty() {
            tracing::warn!(
                issuer = settings.name,
                "no audience is set: tokens that this issuer made for other services are taken, too"
            );
        }
        let mut options = KeySetOptions {
            try_all_keys: settings.try_all_keys,
            ..KeySetOptions::default()
        };
        options.outside.roots_file.clone_from(&settings.tls_ca);
        let checks = Checks {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            leeway: settings.leeway.0,
            ..Checks::new(settings.algorithms.iter().map(|one| one.0))
        };
        let rate = Rate::new(settings.publish_per_second.get(), settings.burst.get());
        Ok(Self {
            name: settings.name.clone(),
            verifier: Verifier::new(KeySet::start(settings.source(), options)?, checks),
            rights_claim: settings.rights_claim.clone(),
            publish: settings.publish.iter().map(|one| one.0.clone()).collect(),
            read: settings.read.iter().map(|one| one.0.clone()).collect(),
            budgets: rate.map(Budgets::new),
        })
    }

    fn rights(&self, claims: &Claims, now: Now) -> Result<Rights, Refusal> {
        let narrowed = match claims.all.get(&self.rights_claim) {
            None => None,
            Some(Value::Object(lists)) => Some(lists),
            Some(_) => return Err(Refusal::Rights),
        };
        let open = |templates: &[Template], list: &str| {
            let filled = templates.iter().filter_map(|one| one.fill(claims));
            let narrowed = narrowed.map(|lists| patterns(lists.get(list)));
            Ok::<_, Refusal>(Open {
                patterns: filled.collect(),
                narrowed: narrowed.transpose()?,
            })
        };
        let leeway = u64::try_from(self.verifier.checks().leeway.as_millis());
        let leeway = leeway.unwrap_or(u64::MAX);
        let subject = claims.subject.as_deref().unwrap_or_default();
        let budgets = self.budgets.as_ref();
        Ok(Rights {
            who: Who::Token(self.name.clone()),
            publish: open(&self.publish, "publish")?,
            read: open(&self.read, "read")?,
            until_unix_ms: claims
                .expires_unix_ms
                .map(|expires| expires.saturating_add(leeway)),
            budget: budgets.map(|budgets| budgets.of(subject, now.uptime)),
        })
    }
}

/// A token's own list. One that is not there opens nothing: who writes the claim writes all of it.
fn patterns(list: Option<&Value>) -> Result<Vec<TopicPattern>, Refusal> {
    let list = match list {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= PATTERNS_MAX => list,
        Some(_) => return Err(Refusal::Rights),
    };
    list.iter()
        .map(|one| TopicPattern::parse(one.as_str()?).ok())
        .collect::<Option<_>>()
        .ok_or(Refusal::Rights)
}

impl Refusal {
    /// Whether the same token may be good a moment later.
    #[must_use]
    pub fn is_for_now(&self) -> bool {
        *self == Self::Token(TokenError::KeysUnavailable)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let cause = match refusal {
            Refusal::Token(TokenError::Expired) => Cause::TokenExpired,
            Refusal::Token(TokenError::KeysUnavailable) => Cause::IssuerUnavailable,
            _ => Cause::InvalidToken,
        };
        Self::token(cause, &refusal.to_string())
    }
}

/// Whether this could be a token at all, and not a key: three parts, of which the first is the
/// base64 of a JSON object.
#[must_use]
pub fn looks_like_one(given: &[u8]) -> bool {
    given.starts_with(b"ey") && given.iter().filter(|byte| **byte == b'.').count() == 2
}
