//! Operations that are one command: what is asked of one channel or one user. They are the same
//! whichever way they come, by `rtm.publish` or as drafts ([`super::Rules`]).

use serde_json::{Map, Value, json};

use super::Fields;
use crate::answer::to_json;
use crate::channel::{Ask, New};
use crate::http::Problem;
use crate::objects::{self, Body};
use crate::user::{Ask as UserAsk, NOTICE};
use crate::{BOT, BOT_NAME, BOT_USER};

/// Bytes of an e-mail address (RFC 5321 §4.5.3.1.3).
pub(super) const EMAIL_BYTES_MAX: usize = 254;

/// Bytes of a display name; it stands in every receipt and reaction.
pub(super) const NAME_BYTES_MAX: usize = 128;

/// Users that an alert is from.
pub(super) const FROM_MAX: usize = 100;

/// Bytes of a payload that is not retained: the log hands out no larger one.
const FLASH_BYTES_MAX: usize = 64 * 1024;

/// What a channel decides.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Single {
    /// Which; without one it is the channel of the message.
    pub(super) channel: Option<u64>,
    /// The message that it makes, or that it is about.
    pub(super) message: Option<u64>,
    /// Who does it, if a refusal has to say whether there is such a user.
    pub(super) actor: Option<u64>,
    pub(super) ask: Ask,
}

/// What operations are made with.
#[derive(Debug, Clone)]
pub(super) struct Making {
    /// The id of what has none, the same for every try under one key.
    pub(super) seed: u64,
    /// Under which the result is remembered.
    pub(super) op: Option<String>,
    /// The channel or user that it must be about.
    pub(super) home: Option<u64>,
}

impl Making {
    /// An id that may be missing where the way that the operation came says it.
    fn at_home(&self, fields: &Fields<'_>, name: &str) -> Result<u64, Problem> {
        match (fields.maybe(name, Fields::id)?, self.home) {
            (Some(given), Some(home)) if given != home => {
                Err(Problem::bad(format!("`{name}` is not the topic's")))
            }
            (None, Some(home)) => Ok(home),
            (Some(given), _) => Ok(given),
            (None, None) => fields.id(name),
        }
    }

    /// What one channel is asked; `None`: the operation is none of these.
    pub(super) fn of_channel(
        &self,
        op: &str,
        data: &Fields<'_>,
    ) -> Result<Option<Single>, Problem> {
        let key = self.op.clone();
        Ok(Some(match op {
            "channel.update" => {
                let mut set = data.object("set")?.all().clone();
                tidy(&mut set)?;
                self.plain(data, Ask::Update { set, op: key })?
            }
            "channel.remove" => self.plain(data, Ask::End { op: key })?,
            "message.post" => self.post(data)?,
            "message.post_bot" => self.post_bot(data)?,
            "message.update" => {
                let message = data.id("message_id")?;
                let ask = Ask::Edit {
                    message,
                    content: data.maybe("content", Fields::any)?.cloned(),
                    attachments: data.maybe("attachments", Fields::list)?.cloned(),
                    op: key,
                };
                self.about(data, message, ask)?
            }
            "message.delete" => {
                let message = data.id("message_id")?;
                self.about(data, message, Ask::Delete { message, op: key })?
            }
            "action.create" => {
                let given = data.object("action")?;
                let channel = self.at_home(&given, "channel_id")?;
                let id = given.maybe("id", Fields::id)?.unwrap_or(self.seed);
                let mut action = given.all().clone();
                action.insert("id".into(), id.into());
                action.insert("channel_id".into(), channel.into());
                complete(&mut action, self.seed)?;
                let payload = json!({ "action": action, "channel_id": channel });
                self.tell(channel, op, payload, json!({ "action_id": id }), None)
            }
            "lock.acquire" | "lock.release" => {
                let (channel, user) = (self.at_home(data, "channel_id")?, data.id("user_id")?);
                let payload = json!({
                    "lock_id": data.id("lock_id")?,
                    "channel_id": channel,
                    "user_id": user,
                    "path": data.text("path")?,
                });
                self.tell(channel, op, payload, json!({}), Some(user))
            }
            "event.emit" => {
                let passed = Passed::of(data)?;
                let channel = match data.maybe("audience", Fields::object)? {
                    Some(audience) if audience.all().contains_key("user_ids") => return Ok(None),
                    Some(audience) => self.at_home(&audience, "channel_id")?,
                    None => self
                        .home
                        .ok_or_else(|| Problem::bad("`audience` is missing"))?,
                };
                let mut single = self.tell(channel, passed.event, passed.payload, json!({}), None);
                if let Ask::Tell {
                    except, retained, ..
                } = &mut single.ask
                {
                    (*except, *retained) = (passed.except, passed.retained);
                }
                single
            }
            _ => return Ok(None),
        }))
    }

    fn plain(&self, data: &Fields<'_>, ask: Ask) -> Result<Single, Problem> {
        Ok(Single {
            channel: Some(self.at_home(data, "channel_id")?),
            message: None,
            actor: None,
            ask,
        })
    }

    /// About a message: its channel is looked up, unless the way that it came says it.
    fn about(&self, data: &Fields<'_>, message: u64, ask: Ask) -> Result<Single, Problem> {
        let channel = match self.home {
            Some(_) => Some(self.at_home(data, "channel_id")?),
            None => None,
        };
        Ok(Single {
            channel,
            message: channel.is_none().then_some(message),
            actor: None,
            ask,
        })
    }

    fn tell(
        &self,
        channel: u64,
        event: &str,
        payload: Value,
        result: Value,
        actor: Option<u64>,
    ) -> Single {
        Single {
            channel: Some(channel),
            message: None,
            actor,
            ask: Ask::Tell {
                event: event.to_owned(),
                payload,
                result,
                except: None,
                retained: true,
                actor,
                op: self.op.clone(),
            },
        }
    }

    fn post(&self, data: &Fields<'_>) -> Result<Single, Problem> {
        let message = data.object("message")?;
        let kind = message.maybe("message_type", Fields::number)?.unwrap_or(1);
        if !(1..=127).contains(&kind) {
            return Err(Problem::bad("`message_type` is from 1 to 127"));
        }
        let list = |name| Ok::<_, Problem>(message.maybe(name, Fields::list)?.cloned());
        let new = New {
            id: message.maybe("id", Fields::id)?.unwrap_or(self.seed),
            author: message.id("user_id")?,
            bot: None,
            kind,
            body: Body {
                content: message.any("content")?.clone(),
                attachments: list("attachments")?.unwrap_or_default(),
                parent_message: list("parent_message")?.unwrap_or_default(),
            },
            created: message.maybe("created_on_ts", Fields::number)?,
        };
        Ok(self.posting(self.at_home(&message, "channel_id")?, Some(new.author), new))
    }

    fn post_bot(&self, data: &Fields<'_>) -> Result<Single, Problem> {
        let kind = data.number("type")?;
        let words = data.any("bot_message")?;
        let new = New {
            id: self.seed,
            author: data.maybe("user_id", Fields::id)?.unwrap_or(BOT_USER),
            bot: Some(BOT_NAME.to_owned()),
            kind: BOT,
            body: Body {
                content: json!({ "type": kind, "bot_message": words }),
                attachments: Vec::new(),
                parent_message: Vec::new(),
            },
            created: None,
        };
        Ok(self.posting(self.at_home(data, "channel_id")?, None, new))
    }

    fn posting(&self, channel: u64, actor: Option<u64>, new: New) -> Single {
        Single {
            channel: Some(channel),
            message: Some(new.id),
            actor,
            ask: Ask::Post {
                new,
                op: self.op.clone(),
            },
        }
    }

    /// What one user's record is asked; `None`: the operation is none of these.
    pub(super) fn of_user(
        &self,
        op: &str,
        data: &Fields<'_>,
    ) -> Result<Option<(u64, UserAsk)>, Problem> {
        let key = self.op.clone();
        Ok(Some(match op {
            "user.profile_update" => {
                let name = data.maybe("display_name", |f, n| f.line(n, NAME_BYTES_MAX))?;
                let ask = UserAsk::Profile {
                    display_name: name.map(str::to_owned),
                    has_avatar: data.maybe("has_avatar", Fields::flag)?,
                    op: key,
                };
                (self.at_home(data, "user_id")?, ask)
            }
            "session.revoke" => {
                let user = self.at_home(data, "user_id")?;
                (user, UserAsk::Revoke { op: key })
            }
            // One that names users by their ids has to look them up first.
            "alert.notify" => {
                let from = data.list("from")?;
                if from.len() > FROM_MAX {
                    return Err(Problem::bad("`from` has at most 100 users"));
                }
                if from.iter().any(|one| objects::id(one).is_some()) && self.home.is_none() {
                    return Ok(None);
                }
                if !from.iter().all(Value::is_object) {
                    let words = match self.home {
                        Some(_) => "`from` has users, not their ids: those take `rtm.publish`",
                        None => "`from` has users or their ids",
                    };
                    return Err(Problem::bad(words));
                }
                (self.at_home(data, "user_id")?, self.alert(data, from)?)
            }
            "event.emit" if self.home.is_some() => {
                let passed = Passed::of(data)?;
                let user = match data.maybe("audience", Fields::object)? {
                    Some(audience) => match (&audience.ids("user_ids")?[..], self.home) {
                        ([user], Some(home)) if *user == home => home,
                        _ => return Err(Problem::bad("`user_ids` is not the topic's user")),
                    },
                    None => self.at_home(data, "user_id")?,
                };
                let ask = UserAsk::Tell {
                    event: passed.event.to_owned(),
                    payload: passed.payload,
                    retained: passed.retained,
                    result: json!({}),
                    op: key,
                };
                (user, ask)
            }
            _ => return Ok(None),
        }))
    }

    fn alert(&self, data: &Fields<'_>, from: &[Value]) -> Result<UserAsk, Problem> {
        let mut alert = json!({
            "alert_id": self.seed,
            "from": from,
            "alert_text": data.text("alert_text")?,
            "channel_id": data.id("channel_id")?,
            "is_read": data.maybe("is_read", Fields::flag)?.unwrap_or(false),
        });
        for name in ["message_id", "action_id"] {
            if let Some(id) = data.maybe(name, Fields::id)? {
                alert[name] = id.into();
            }
        }
        Ok(UserAsk::Tell {
            event: "alert.notification".to_owned(),
            payload: alert,
            retained: true,
            result: json!({ "alert_id": self.seed }),
            op: self.op.clone(),
        })
    }
}

/// An event that only passes through.
#[derive(Debug)]
pub(super) struct Passed<'a> {
    pub(super) event: &'a str,
    pub(super) payload: Value,
    pub(super) retained: bool,
    pub(super) except: Option<u64>,
}

impl<'a> Passed<'a> {
    pub(super) fn of(data: &Fields<'a>) -> Result<Self, Problem> {
        let event = data.line("event", 100)?;
        if event == NOTICE || event.starts_with("tidings.") {
            return Err(Problem::bad("`event` is not yours"));
        }
        let payload = Value::Object(data.object("payload")?.all().clone());
        let retained =
            data.maybe("retained", Fields::flag)?.unwrap_or(true) && !is_live_only(event);
        if !retained && to_json(&payload).len() > FLASH_BYTES_MAX {
            let words = "`payload` of what is not retained has at most 65536 bytes";
            return Err(Problem::bad(words));
        }
        Ok(Self {
            event,
            payload,
            retained,
            except: data.maybe("except_user_id", Fields::id)?,
        })
    }
}

/// Events that are never replayed, whoever sends them (contract §1.7).
fn is_live_only(event: &str) -> bool {
    matches!(
        event,
        "chat.userTyping" | "user.online" | "user.offline" | "pong"
    ) || event.starts_with("system.")
}

/// What every Action object has, if the backend does not say it (contract §2). The seed begins with
/// the time, and is the same for every try.
fn complete(action: &mut Map<String, Value>, seed: u64) -> Result<(), Problem> {
    let made = json!({
        "action_name": "",
        "action_desc": "",
        "action_type": 0,
        "action_status": 0,
        "due_on": null,
        "created_on": objects::on(seed / 4096 / 1000),
        "created_by": 0,
        "updated_on": null,
        "updated_by": null,
    });
    for name in ["created_by", "updated_by"] {
        if let Some(by) = action.get_mut(name).filter(|by| !by.is_null()) {
            let id = objects::id(by).ok_or_else(|| Problem::bad(format!("`{name}` is no id")))?;
            *by = id.into();
        }
    }
    for (name, value) in made.as_object().into_iter().flatten() {
        action.entry(name.clone()).or_insert(value.clone());
    }
    Ok(())
}

/// What the hub derives is not the backend's to set; numbers that came as texts become numbers.
pub(super) fn tidy(fields: &mut Map<String, Value>) -> Result<(), Problem> {
    for derived in [
        "members",
        "members_total",
        "latest_message",
        "last_active_on",
        "last_active_on_ts",
    ] {
        fields.remove(derived);
    }
    if let Some(by) = fields.get_mut("created_by") {
        let id = objects::id(by).ok_or_else(|| Problem::bad("`created_by` is no id"))?;
        *by = id.into();
    }
    Ok(())
}
