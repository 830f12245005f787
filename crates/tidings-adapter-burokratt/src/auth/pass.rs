//! What a right rests on, so that an open stream can be looked at again: the question to TIM, and
//! what its answer means. Pure: the session asks.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidings_adapter::{Call, CallAnswer, CallError};

use crate::keys::Channel;

/// What TIM says of a good cookie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The end user's chat.
    pub(crate) chat: Option<Channel>,
    /// Has one of the roles.
    pub(crate) agent: bool,
}

/// What claims must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wants {
    Chat(Channel),
    AnyChat,
    Agent,
}

impl Wants {
    pub(crate) fn met_by(&self, claims: &Claims) -> bool {
        match self {
            Self::Chat(chat) => claims.chat.as_ref() == Some(chat),
            Self::AnyChat => claims.chat.is_some(),
            Self::Agent => claims.agent,
        }
    }
}

/// How TIM is asked and understood.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) userinfo: Arc<str>,
    pub(super) roles: Vec<String>,
    pub(super) patience: Duration,
}

impl Terms {
    /// An answer of TIM's. `None`: the cookie is no good; `Err`: it cannot say.
    pub(super) fn read(&self, status: u16, body: &[u8]) -> Result<Option<Claims>, ()> {
        match status {
            200..=299 => {}
            // A no is one of these; what else there is (too many requests, another server at this
            // address) says nothing about the cookie, and must not end every stream.
            400 | 401 | 403 => return Ok(None),
            _ => return Err(()),
        }
        // Nothing at all is how TIM says no; what is not an object says nothing either.
        let Ok(Value::Object(claims)) = serde_json::from_slice(body) else {
            return Ok(None);
        };
        let chat = claims.get("chatId").and_then(Value::as_str);
        let given = match claims.get("authorities") {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) => text.split(',').map(str::trim).collect(),
            _ => Vec::new(),
        };
        Ok(Some(Claims {
            chat: chat.and_then(Channel::parse),
            agent: given
                .iter()
                .any(|role| self.roles.iter().any(|one| one == role)),
        }))
    }
}

/// What a stream's right rests on.
#[derive(Clone)]
pub(crate) struct Pass {
    terms: Arc<Terms>,
    /// The cookie's name.
    name: Arc<str>,
    /// The request's cookies: secrets.
    cookies: Arc<str>,
    wants: Wants,
}

/// What became of a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It stands.
    Good,
    /// It is over: say so and end.
    Over,
    /// TIM does not say: go on, and ask again at the next time.
    Unknown,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pass({}, {:?})", self.name, self.wants)
    }
}

impl Pass {
    pub(super) fn new(terms: Arc<Terms>, name: &str, cookies: &str, wants: Wants) -> Self {
        Self {
            terms,
            name: name.into(),
            cookies: cookies.into(),
            wants,
        }
    }

    /// What TIM is asked.
    pub(crate) fn question(&self) -> Call {
        Call {
            method: "POST".into(),
            url: self.terms.userinfo.clone(),
            headers: vec![
                ("content-type".into(), "text/plain".into()),
                ("cookie".into(), self.cookies.clone()),
            ],
            body: self.name.as_bytes().to_vec().into(),
            patience: self.terms.patience,
        }
    }

    /// What its answer means.
    pub(crate) fn judge(&self, answer: &Result<CallAnswer, CallError>) -> Standing {
        let Ok(answer) = answer else {
            return Standing::Unknown;
        };
        match self.terms.read(answer.status, &answer.body) {
            Ok(Some(claims)) if self.wants.met_by(&claims) => Standing::Good,
            Ok(_) => Standing::Over,
            Err(()) => Standing::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(wants: Wants) -> Pass {
        let terms = Terms {
            userinfo: "http://tim/jwt/custom-jwt-userinfo".into(),
            roles: vec!["ROLE_A".into()],
            patience: Duration::from_secs(1),
        };
        Pass::new(Arc::new(terms), "chatJwt", "chatJwt=x; y=z", wants)
    }

    #[test]
    fn answers_are_judged() {
        let chat = Wants::Chat(Channel::parse("c1").expect("an id"));
        for (wants, status, body, standing) in [
            (chat.clone(), 200, r#"{"chatId":"c1"}"#, Standing::Good),
            (chat.clone(), 200, r#"{"chatId":"c2"}"#, Standing::Over),
            (chat.clone(), 200, "", Standing::Over),
            (chat.clone(), 200, "null", Standing::Over),
            (chat.clone(), 200, r#"{"chatId":7}"#, Standing::Over),
            (chat.clone(), 400, r#"{"chatId":"c1"}"#, Standing::Over),
            (chat.clone(), 401, "", Standing::Over),
            (chat.clone(), 404, "", Standing::Unknown),
            (chat.clone(), 429, "", Standing::Unknown),
            (chat.clone(), 500, "", Standing::Unknown),
            (chat.clone(), 302, "", Standing::Unknown),
            (Wants::AnyChat, 200, r#"{"chatId":"c2"}"#, Standing::Good),
            (Wants::AnyChat, 200, "{}", Standing::Over),
            (
                Wants::Agent,
                200,
                r#"{"authorities":["X","ROLE_A"]}"#,
                Standing::Good,
            ),
            (
                Wants::Agent,
                200,
                r#"{"authorities":"X, ROLE_A"}"#,
                Standing::Good,
            ),
            (
                Wants::Agent,
                200,
                r#"{"authorities":["ROLE_"]}"#,
                Standing::Over,
            ),
            (
                Wants::Agent,
                200,
                r#"{"authorities":{"ROLE_A":1}}"#,
                Standing::Over,
            ),
        ] {
            let answer = CallAnswer {
                status,
                body: body.into(),
            };
            assert_eq!(pass(wants).judge(&Ok(answer)), standing, "{status} {body}");
        }
        let none = Err(CallError::NotSetUp);
        assert_eq!(pass(chat).judge(&none), Standing::Unknown);
    }

    #[test]
    fn the_question_carries_the_cookies_and_shows_them_to_nobody() {
        let pass = pass(Wants::Agent);
        let question = pass.question();
        assert_eq!(&*question.url, "http://tim/jwt/custom-jwt-userinfo");
        assert_eq!(question.body, "chatJwt");
        assert!(
            question
                .headers
                .contains(&("cookie".into(), "chatJwt=x; y=z".into()))
        );
        assert!(!format!("{pass:?}").contains("y=z"));
    }
}
