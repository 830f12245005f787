//! Who a token is of: the app from its audience, the organisation from its subject.

use std::sync::Arc;

use tidings_adapter::jwt::{Claims, TokenError};

use crate::apps::App;
use crate::event::Subject;
use crate::options::Settings;

/// What a good token opens.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) app: Arc<App>,
    /// The organisation whose events are delivered.
    pub(crate) organisation: Subject,
    /// When the connection ends, milliseconds since 1970.
    pub(crate) expires_unix_ms: Option<u64>,
}

/// Why a client is refused, in as much as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Unauthorized,
    Expired,
    /// The issuer's keys cannot be had for the moment: the token may be good.
    TryAgain,
}

impl From<TokenError> for Refused {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Expired => Self::Expired,
            TokenError::KeysUnavailable => Self::TryAgain,
            _ => Self::Unauthorized,
        }
    }
}

/// What the claims of a token that was found good open here.
pub(crate) fn grant(claims: &Claims, settings: &Settings) -> Result<Grant, Refused> {
    let no = Refused::Unauthorized;
    let tenant = tenant(claims.subject.as_deref().ok_or(no)?).ok_or(no)?;
    let organisation = Subject::organisation(tenant).ok_or(no)?;
    let app = match claims.audience.first() {
        // `my_app/credentials_name` since 2020-03.
        Some(audience) => audience.split('/').next().unwrap_or_default(),
        None => settings.default_app.as_deref().ok_or(no)?,
    };
    let app = settings.apps.get(app).ok_or(no)?;
    if !app.is_connected(&organisation) {
        return Err(no);
    }
    if let Some(needed) = &settings.require_scope {
        let scopes = claims.all.get("scope");
        let listed = scopes.and_then(|scopes| scopes.as_array());
        let in_list = |all: &Vec<_>| {
            all.iter()
                .any(|one: &serde_json::Value| one == needed.as_str())
        };
        let in_text = scopes.and_then(|scopes| scopes.as_str());
        let in_text = in_text.is_some_and(|all| all.split(' ').any(|one| one == needed));
        if !in_text && !listed.is_some_and(in_list) {
            return Err(no);
        }
    }
    Ok(Grant {
        app: app.clone(),
        organisation,
        expires_unix_ms: claims.expires_unix_ms,
    })
}

/// The organisation's id in a token's `sub`: the last part of `^((\w+)/([\w-]+)>)?(\w+)/([\w-]+)$`.
fn tenant(sub: &str) -> Option<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let part = |text: &str| {
        let (kind, id) = text.split_once('/')?;
        let good = !kind.is_empty()
            && kind.chars().all(word)
            && !id.is_empty()
            && id.chars().all(|c| word(c) || c == '-');
        good.then_some(())
    };
    let last = match sub.split_once('>') {
        Some((on_behalf, last)) => {
            part(on_behalf)?;
            last
        }
        None => sub,
    };
    part(last)?;
    last.strip_prefix("Organization/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::ZaikioOptions;
    use serde_json::{Value, json};

    #[test]
    fn subjects_of_tokens() {
        for (sub, expected) in [
            ("Organization/b-1", Some("b-1")),
            ("Person/a>Organization/b", Some("b")),
            ("Person/a", None),
            ("Organization/a>Person/b", None),
            ("Organization/", None),
            ("Organization", None),
            ("Organization/a b", None),
            ("Person/>Organization/b", None),
            ("Person/a>Person/c>Organization/b", None),
            ("organization/b", None),
            ("", None),
        ] {
            assert_eq!(tenant(sub), expected, "{sub}");
        }
    }

    fn claims(changes: Value) -> Claims {
        let mut all = json!({"sub": "Organization/o", "aud": ["my_app"], "scope": ["a.b.r"]});
        for (name, value) in changes.as_object().expect("an object") {
            all[name] = value.clone();
        }
        let list = |value: &Value| {
            let texts = value.as_array().into_iter().flatten();
            texts
                .filter_map(|one| one.as_str().map(str::to_owned))
                .collect()
        };
        Claims {
            issuer: None,
            subject: all["sub"].as_str().map(str::to_owned),
            audience: list(&all["aud"]),
            id: None,
            expires_unix_ms: Some(1),
            issued_unix_ms: None,
            all: all.as_object().expect("an object").clone(),
        }
    }

    #[test]
    fn claims_open_an_app_and_an_organisation() {
        let settings = |text: &str| {
            let options: ZaikioOptions = toml::from_str(text).expect("good");
            Settings::of(&options).expect("good")
        };
        let open = settings("[apps.my_app]");
        let strict =
            settings("default_app = \"my_app\"\nrequire_scope = \"a.b.r\"\n[apps.my_app]\n");
        let closed =
            settings("[apps.my_app]\nsubjects = [\"Org/837ebb91-2d4b-4818-a19b-04fea7be8cde\"]");
        for (settings, changes, good) in [
            (&open, json!({}), true),
            (&open, json!({"aud": ["my_app/laptop", "other"]}), true),
            (&open, json!({"aud": ["other", "my_app"]}), false),
            (&open, json!({"aud": []}), false),
            (&open, json!({"sub": null}), false),
            (&open, json!({"sub": "Person/a"}), false),
            (&strict, json!({"aud": []}), true),
            (&strict, json!({"scope": "x a.b.r"}), true),
            (&strict, json!({"scope": ["a.b.rw"]}), false),
            (&strict, json!({"scope": null}), false),
            (&closed, json!({}), false),
            (
                &closed,
                json!({"sub": "Organization/837EBB91-2d4b-4818-a19b-04fea7be8cde"}),
                true,
            ),
        ] {
            let granted = grant(&claims(changes.clone()), settings);
            assert_eq!(granted.is_ok(), good, "{changes}");
        }
    }
}
