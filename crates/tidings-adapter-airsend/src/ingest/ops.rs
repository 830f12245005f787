//! The operations, each from its fields to commands.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tidings_adapter::{Dedup, Draft};

use super::{Fields, Operation};
use crate::answer::{Refusal, to_json};
use crate::channel::{self, Ask, ENROL_MAX, New, Seat};
use crate::http::Problem;
use crate::objects::Body;
use crate::presence::Presence;
use crate::user::{self, Ask as UserAsk, NOTICE, User};
use crate::{BOT, BOT_NAME, BOT_USER, index, keys, login};

/// Bytes of an e-mail address (RFC 5321 §4.5.3.1.3).
const EMAIL_BYTES_MAX: usize = 254;

/// Bytes of a display name; it stands in every receipt and reaction.
const NAME_BYTES_MAX: usize = 128;

/// Members that a channel is made with; a body of 256 KiB has not many more.
const MEMBERS_MAX: usize = 20_000;

/// Users that are told one by one.
const AUDIENCE_MAX: usize = 1_000;

/// Records loaded at once.
const LOADED_AT_ONCE: usize = 60;

impl Operation<'_> {
    pub(super) async fn perform(&self, op: &str, data: &Fields<'_>) -> Result<Value, Problem> {
        match op {
            "user.upsert" => self.upsert(data).await,
            "user.profile_update" => {
                let name = data.maybe("display_name", |f, n| f.line(n, NAME_BYTES_MAX))?;
                let ask = UserAsk::Profile {
                    display_name: name.map(str::to_owned),
                    has_avatar: data.maybe("has_avatar", Fields::flag)?,
                    op: self.op.clone(),
                };
                self.user(data.id("user_id")?, &ask).await
            }
            "session.revoke" => {
                let op = self.op.clone();
                self.user(data.id("user_id")?, &UserAsk::Revoke { op })
                    .await
            }
            "channel.create" => self.create(data).await,
            "channel.update" => {
                let mut set = data.object("set")?.all().clone();
                tidy(&mut set)?;
                let op = self.op.clone();
                self.channel(data.id("channel_id")?, &Ask::Update { set, op })
                    .await
            }
            "channel.remove" => {
                let op = self.op.clone();
                self.channel(data.id("channel_id")?, &Ask::End { op }).await
            }
            "channel.add_user" => self.add(data).await,
            "channel.remove_user" => self.remove(data).await,
            "message.post" => self.post(data).await,
            "message.post_bot" => self.post_bot(data).await,
            "message.update" => {
                let content = data.maybe("content", Fields::any)?.cloned();
                let attachments = data.maybe("attachments", Fields::list)?.cloned();
                let message = data.id("message_id")?;
                let op = self.op.clone();
                let ask = Ask::Edit {
                    message,
                    content,
                    attachments,
                    op,
                };
                self.message(message, &ask).await
            }
            "message.delete" => {
                let (message, op) = (data.id("message_id")?, self.op.clone());
                self.message(message, &Ask::Delete { message, op }).await
            }
            "alert.notify" => self.alert(data).await,
            "action.create" => {
                let mut action = data.object("action")?.all().clone();
                let channel = data.object("action")?.id("channel_id")?;
                let id = data
                    .object("action")?
                    .maybe("id", Fields::id)?
                    .unwrap_or(self.seed);
                action.insert("id".into(), id.into());
                action.insert("channel_id".into(), channel.into());
                for name in ["updated_on", "updated_by"] {
                    action.entry(name).or_insert(Value::Null);
                }
                let payload = json!({ "action": action, "channel_id": channel });
                self.tell(channel, op, payload, json!({ "action_id": id }), None)
                    .await
            }
            "lock.acquire" | "lock.release" => {
                let (channel, user) = (data.id("channel_id")?, data.id("user_id")?);
                let payload = json!({
                    "lock_id": data.id("lock_id")?,
                    "channel_id": channel,
                    "user_id": user,
                    "path": data.text("path")?,
                });
                self.tell(channel, op, payload, json!({}), Some(user)).await
            }
            "event.emit" => self.emit(data).await,
            _ => Err(Problem::bad("unknown `op`")),
        }
    }

    async fn user(&self, user: u64, ask: &UserAsk) -> Result<Value, Problem> {
        self.ask(user::command(user, ask)).await
    }

    async fn channel(&self, channel: u64, ask: &Ask) -> Result<Value, Problem> {
        self.ask(channel::command(channel, ask)).await
    }

    /// A command to the channel in which a message is.
    async fn message(&self, message: u64, ask: &Ask) -> Result<Value, Problem> {
        let channel = self.shared.channel_of(message).await?;
        self.channel(channel.ok_or(Refusal::NoMessage)?, ask).await
    }

    /// A refusal that says whether the actor is nobody or only no member.
    async fn acting(&self, user: u64, result: Result<Value, Problem>) -> Result<Value, Problem> {
        if result == Err(Refusal::NotMember.into()) {
            self.seats(&[user]).await?;
        }
        result
    }

    async fn tell(
        &self,
        channel: u64,
        event: &str,
        payload: Value,
        result: Value,
        actor: Option<u64>,
    ) -> Result<Value, Problem> {
        let ask = Ask::Tell {
            event: event.to_owned(),
            payload,
            result,
            except: None,
            retained: true,
            actor,
            op: self.op.clone(),
        };
        let told = self.channel(channel, &ask).await;
        match actor {
            Some(actor) => self.acting(actor, told).await,
            None => told,
        }
    }

    async fn upsert(&self, data: &Fields<'_>) -> Result<Value, Problem> {
        let id = data.id("id")?;
        let email = data.line("email", EMAIL_BYTES_MAX)?;
        let display_name = data.line("display_name", NAME_BYTES_MAX)?;
        let has_avatar = data.maybe("has_avatar", Fields::flag)?;
        let password = match data.maybe("password", Fields::text)? {
            Some(password) => Some(login::hash(self.shared, password).await?),
            None => None,
        };
        let login = keys::login_index(email);
        let place = keys::index_key(&login);
        let known = self
            .shared
            .hub
            .load(&place, vec![keys::index(&login)])
            .await?;
        let owner: Option<u64> = known
            .into_iter()
            .flatten()
            .next()
            .and_then(|record| serde_json::from_slice(&record.document).ok());
        if owner.is_some_and(|owner| owner != id) {
            return Err(Problem::bad("`email` is another user's"));
        }
        let point = index::Ask::Point {
            to: id,
            lifetime_ms: None,
        };
        self.ask(index::command(&login, &point)).await?;
        let ask = UserAsk::Upsert {
            email: email.to_owned(),
            display_name: display_name.to_owned(),
            has_avatar,
            password,
            op: self.op.clone(),
        };
        let before = self.user(id, &ask).await?;
        if let Some(old) = before["old_email"].as_str()
            && keys::login_index(old) != login
        {
            let drop = index::Ask::Drop { to: id };
            self.ask(index::command(&keys::login_index(old), &drop))
                .await?;
        }
        Ok(json!({}))
    }

    async fn create(&self, data: &Fields<'_>) -> Result<Value, Problem> {
        let given = data.object("channel")?;
        let channel = given.maybe("id", Fields::id)?.unwrap_or(self.seed);
        let mut fields = given.all().clone();
        tidy(&mut fields)?;
        let mut members = data.ids("member_ids")?;
        members.sort_unstable();
        members.dedup();
        if members.is_empty() || members.len() > MEMBERS_MAX {
            return Err(Problem::bad("`member_ids` has 1 to 20000 ids"));
        }
        let seats = self.seats(&members).await?;
        let op = self.op.clone();
        let create = Ask::Create {
            fields,
            nonce: self.nonce(),
            op: op.clone(),
        };
        let created = self.channel(channel, &create).await?;
        // Of an earlier try that got no further; or of one that is done, which answers as it did.
        let Some(nonce) = created["nonce"].as_str() else {
            return Ok(created);
        };
        for seats in seats.chunks(ENROL_MAX) {
            let (nonce, seats) = (nonce.to_owned(), seats.to_vec());
            self.channel(channel, &Ask::Enrol { nonce, seats }).await?;
        }
        let nonce = nonce.to_owned();
        self.channel(channel, &Ask::Open { nonce, op }).await
    }

    async fn add(&self, data: &Fields<'_>) -> Result<Value, Problem> {
        let (channel, user) = (data.id("channel_id")?, data.id("user_id")?);
        data.maybe("added_by", Fields::id)?;
        let seat = self.seats(&[user]).await?.pop().ok_or(Refusal::NoUser)?;
        let ask = Ask::Add {
            seat,
            nonce: self.nonce(),
            op: self.op.clone(),
        };
        self.channel(channel, &ask).await
    }

    /// First the user's own record, then the channel's log: see [`crate::user`].
    async fn remove(&self, data: &Fields<'_>) -> Result<Value, Problem> {
        let (channel, user) = (data.id("channel_id")?, data.id("user_id")?);
        let by = data.maybe("removed_by", Fields::id)?.unwrap_or(user);
        let place = keys::channel_key(channel);
        let records = vec![keys::channel(channel), keys::member(channel, user)];
        let mut records = self.shared.hub.load(&place, records).await?.into_iter();
        let open = records.next().flatten().is_some_and(|record| {
            serde_json::from_slice::<channel::Channel>(&record.document)
                .is_ok_and(|channel| channel.state == channel::Standing::Open)
        });
        if !open {
            return Err(Refusal::NoChannel.into());
        }
        let member = records.next().flatten();
        let member = member
            .and_then(|record| serde_json::from_slice::<channel::Member>(&record.document).ok());
        let Some(member) = member else {
            self.seats(&[user]).await?;
            // Done by an earlier try, or by nobody: there is nothing to remove.
            return match &self.op {
                Some(_) => Ok(json!({})),
                None => Err(Refusal::NotMember.into()),
            };
        };
        let nonce = member.nonce;
        let leave = UserAsk::Leave {
            channel,
            nonce: nonce.clone(),
            by,
            op: self.op.clone(),
        };
        self.user(user, &leave).await?;
        self.channel(channel, &Ask::Remove { user, nonce, by })
            .await
    }

    async fn post(&self, data: &Fields<'_>) -> Result<Value, Problem> {
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
        let author = new.author;
        let posted = self.store(message.id("channel_id")?, new).await;
        self.acting(author, posted).await
    }

    async fn post_bot(&self, data: &Fields<'_>) -> Result<Value, Problem> {
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
        self.store(data.id("channel_id")?, new).await
    }

    /// The way to the message first: whoever hears of it can react to it.
    async fn store(&self, channel: u64, new: New) -> Result<Value, Problem> {
        let lifetime = self.shared.settings.options.message_lifetime.0;
        let point = index::Ask::Point {
            to: channel,
            lifetime_ms: u64::try_from(lifetime.as_millis()).ok(),
        };
        let id = keys::message_index(new.id);
        if let Some(other) = self.shared.channel_of(new.id).await?
            && other != channel
        {
            return Err(Refusal::Exists.into());
        }
        self.ask(index::command(&id, &point)).await?;
        let op = self.op.clone();
        self.channel(channel, &Ask::Post { new, op }).await
    }

    async fn alert(&self, data: &Fields<'_>) -> Result<Value, Problem> {
        let user = data.id("user_id")?;
        let mut from = Vec::new();
        for one in data.list("from")? {
            match crate::objects::id(one) {
                Some(id) => from.extend(self.seats(&[id]).await?.iter().map(Seat::wire)),
                None if one.is_object() => from.push(one.clone()),
                None => return Err(Problem::bad("`from` has users or their ids")),
            }
        }
        self.seats(&[user]).await?;
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
        self.personally(&[user], "alert.notification", &alert)
            .await?;
        Ok(json!({ "alert_id": self.seed }))
    }

    async fn emit(&self, data: &Fields<'_>) -> Result<Value, Problem> {
        let event = data.line("event", 100)?;
        if event == NOTICE || event.starts_with("tidings.") {
            return Err(Problem::bad("`event` is not yours"));
        }
        let payload = data.any("payload")?.clone();
        let audience = data.object("audience")?;
        let retained = data.maybe("retained", Fields::flag)?.unwrap_or(true);
        let except = data.maybe("except_user_id", Fields::id)?;
        if let Some(channel) = audience.maybe("channel_id", Fields::id)? {
            let ask = Ask::Tell {
                event: event.to_owned(),
                payload,
                result: json!({}),
                except,
                retained,
                actor: None,
                op: self.op.clone(),
            };
            return self.channel(channel, &ask).await;
        }
        let mut users = audience.ids("user_ids")?;
        users.retain(|user| Some(*user) != except);
        if users.len() > AUDIENCE_MAX {
            return Err(Problem::bad("`user_ids` has at most 1000 ids"));
        }
        self.seats(&users).await?;
        if retained {
            self.personally(&users, event, &payload).await?;
            return Ok(json!({}));
        }
        for user in users {
            let (event, payload) = (event.to_owned(), payload.clone());
            self.user(user, &UserAsk::Flash { event, payload }).await?;
        }
        Ok(json!({}))
    }

    /// Tells users in their own topics.
    async fn personally(&self, users: &[u64], event: &str, payload: &Value) -> Result<(), Problem> {
        let draft = |user: &u64| {
            let topic = keys::user_topic(*user);
            let dedup = self.op.as_ref().map(|op| Dedup {
                scope: format!("{topic}\nop").into(),
                key: op.as_str().into(),
                lifetime_ms: u64::try_from(self.shared.settings.options.idempotency.0.as_millis())
                    .unwrap_or(u64::MAX),
            });
            Draft {
                dedup,
                ..Draft::new(topic, event, to_json(payload))
            }
        };
        let drafts = users.iter().map(draft).collect();
        let stored = self.shared.hub.publish(drafts).await;
        match stored.into_iter().all(|one| one.is_ok()) {
            true => Ok(()),
            false => Err(Problem::away()),
        }
    }

    /// Who these users are; an unknown one is a refusal.
    async fn seats(&self, users: &[u64]) -> Result<Vec<Seat>, Problem> {
        let mut by_partition: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for user in users {
            let partition = self.shared.hub.placed(keys::user_topic(*user)).partition;
            by_partition.entry(partition).or_default().push(*user);
        }
        let mut seats = Vec::with_capacity(users.len());
        for users in by_partition.values() {
            for users in users.chunks(LOADED_AT_ONCE / 2) {
                let both = |user: &u64| [keys::user(*user), keys::presence(*user)];
                let records = users.iter().flat_map(both).collect();
                let place = keys::user_key(users[0]);
                let loaded = self.shared.hub.load(&place, records).await?;
                for pair in loaded.chunks(2) {
                    seats.push(seat(pair).ok_or(Refusal::NoUser)?);
                }
            }
        }
        Ok(seats)
    }
}

fn seat(pair: &[Option<tidings_adapter::Record>]) -> Option<Seat> {
    let user = User::parse(&pair.first()?.as_ref()?.document)?;
    let presence = pair.get(1)?.as_ref().map(|record| &record.document);
    let presence = Presence::of(presence);
    Some(Seat {
        active: user.active,
        profile: user.profile,
        online: presence.online,
        version: presence.version,
    })
}

/// What the hub derives is not the backend's to set; numbers that came as texts become numbers.
fn tidy(fields: &mut Map<String, Value>) -> Result<(), Problem> {
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
        let id = crate::objects::id(by).ok_or_else(|| Problem::bad("`created_by` is no id"))?;
        *by = id.into();
    }
    Ok(())
}

impl Seat {
    fn wire(&self) -> Value {
        self.profile.wire(self.online, self.active)
    }
}
