//! The operations that are more than one command, each from its fields to the last of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidings_adapter::{CommandError, Decided};

use super::single::{EMAIL_BYTES_MAX, FROM_MAX, Making, NAME_BYTES_MAX, Passed, Single, tidy};
use super::{Fields, Operation};
use crate::answer::{Answer, Refusal};
use crate::channel::{self, Ask, ENROL_MAX, Seat};
use crate::http::Problem;
use crate::presence::Presence;
use crate::user::{self, Ask as UserAsk, User};
use crate::{index, keys, login};

/// Members that a channel is made with; a body of 256 KiB has not many more.
const MEMBERS_MAX: usize = 20_000;

/// Users that are told one by one.
const AUDIENCE_MAX: usize = 1_000;

/// Users told at a time: enough to hide a round trip, few enough to leave the log to others.
const TOLD_AT_ONCE: usize = 16;

/// New members whose records are told before the answer; those of large channels follow it.
const HURRIED_MAX: usize = 100;

/// Records loaded at once.
const LOADED_AT_ONCE: usize = 60;

impl Operation<'_> {
    pub(super) async fn perform(&self, op: &str, data: &Fields<'_>) -> Result<Value, Problem> {
        let making = Making {
            seed: self.seed,
            op: self.op.clone(),
            home: None,
        };
        if let Some(single) = making.of_channel(op, data)? {
            return self.single(single).await;
        }
        if let Some((user, ask)) = making.of_user(op, data)? {
            return self.user(user, &ask).await;
        }
        match op {
            "user.upsert" => self.upsert(data).await,
            "channel.create" => self.create(data).await,
            "channel.add_user" => self.add(data).await,
            "channel.remove_user" => self.remove(data).await,
            "alert.notify" => self.alert(data).await,
            "event.emit" => self.emit(data).await,
            _ => Err(Problem::bad("unknown `op`")),
        }
    }

    /// What one channel decides.
    async fn single(&self, single: Single) -> Result<Value, Problem> {
        let channel = match (single.channel, single.message) {
            (Some(channel), None) => channel,
            (Some(channel), Some(message)) => {
                self.point(message, channel).await?;
                channel
            }
            (None, Some(message)) => {
                let channel = self.shared.channel_of(message).await?;
                channel.ok_or(Refusal::NoMessage)?
            }
            (None, None) => return Err(Problem::bad("`channel_id` is missing")),
        };
        let result = self.channel(channel, &single.ask).await;
        match single.actor {
            Some(actor) => self.acting(actor, result).await,
            None => result,
        }
    }

    /// Makes the way to a message, before it is there: whoever hears of it can react to it.
    async fn point(&self, message: u64, channel: u64) -> Result<(), Problem> {
        let lifetime = self.shared.settings.options.message_lifetime.0;
        let id = keys::message_index(message);
        let point = index::command(&id, &index::Ask::point(channel, lifetime));
        let leads = self.ask(point.clone()).await?;
        if leads == json!(channel) {
            return Ok(());
        }
        // It may lead to where the message was refused, or is deleted: then it leads here from now on.
        let to = leads.as_u64().ok_or(Refusal::Exists)?;
        let there = vec![keys::message(to, message)];
        let there = self.shared.hub.load(&keys::channel_key(to), there).await?;
        if there.into_iter().flatten().next().is_some() {
            return Err(Refusal::Exists.into());
        }
        self.ask(index::command(&id, &index::Ask::Drop { to }))
            .await?;
        match self.ask(point).await? == json!(channel) {
            true => Ok(()),
            false => Err(Refusal::Exists.into()),
        }
    }

    async fn user(&self, user: u64, ask: &UserAsk) -> Result<Value, Problem> {
        self.ask(user::command(user, ask)).await
    }

    async fn channel(&self, channel: u64, ask: &Ask) -> Result<Value, Problem> {
        self.ask(channel::command(channel, ask)).await
    }

    /// A refusal that says whether the actor is nobody or only no member.
    async fn acting(&self, user: u64, result: Result<Value, Problem>) -> Result<Value, Problem> {
        if result == Err(Refusal::NotMember.into()) {
            self.seats(&[user], None).await?;
        }
        result
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
        let point = index::Ask::Point {
            to: id,
            lifetime_ms: None,
        };
        if self.ask(index::command(&login, &point)).await? != json!(id) {
            return Err(Problem::bad("`email` is another user's"));
        }
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
        let seats = self.seats(&members, Some(channel)).await?;
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
        let since_ms = self.shared.hub.now().unix_ms;
        for seats in seats.chunks(ENROL_MAX) {
            let (nonce, seats) = (nonce.to_owned(), seats.to_vec());
            self.channel(channel, &Ask::Enrol { nonce, seats }).await?;
        }
        let ask = Ask::Open {
            nonce: nonce.to_owned(),
            op,
        };
        let opened = self.channel(channel, &ask).await?;
        if seats.len() <= HURRIED_MAX && !self.again {
            self.hurry(channel, nonce, &seats, since_ms).await;
        }
        Ok(opened)
    }

    /// Tells new members' own records, which the channel's outbox does as well: so a client that
    /// connects after the answer finds its memberships, and is not told of them again. Whatever
    /// fails here comes by the outbox. Never after an old answer: the membership may be over, and
    /// forgotten.
    async fn hurry(&self, channel: u64, nonce: &str, seats: &[Seat], since_ms: u64) {
        let mut under_way = tokio::task::JoinSet::new();
        for seat in seats {
            if under_way.len() >= TOLD_AT_ONCE {
                under_way.join_next().await;
            }
            let ask = UserAsk::Joined {
                channel,
                nonce: nonce.to_owned(),
                since_ms,
                profile: seat.profile.version,
            };
            let command = user::command(seat.profile.id, &ask);
            let hub = self.shared.hub.clone();
            under_way.spawn(async move { hub.command(command).await });
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn add(&self, data: &Fields<'_>) -> Result<Value, Problem> {
        let (channel, user) = (data.id("channel_id")?, data.id("user_id")?);
        data.maybe("added_by", Fields::id)?;
        let seats = self.seats(&[user], Some(channel)).await?;
        let seat = seats.first().cloned().ok_or(Refusal::NoUser)?;
        let since_ms = self.shared.hub.now().unix_ms;
        let ask = Ask::Add {
            seat,
            nonce: self.nonce(),
            op: self.op.clone(),
        };
        let added = self.channel(channel, &ask).await?;
        // Unless he was one before.
        if let Some(nonce) = added["joined"].as_str()
            && !self.again
        {
            self.hurry(channel, nonce, &seats, since_ms).await;
        }
        Ok(json!({}))
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
            self.seats(&[user], None).await?;
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

    /// An alert in which users stand by their ids.
    async fn alert(&self, data: &Fields<'_>) -> Result<Value, Problem> {
        let given = data.list("from")?;
        if given.len() > FROM_MAX {
            return Err(Problem::bad("`from` has at most 100 users"));
        }
        let ids = given
            .iter()
            .filter_map(crate::objects::id)
            .collect::<Vec<_>>();
        let seats = self.seats(&ids, None).await?;
        let mut known: BTreeMap<u64, Value> = BTreeMap::new();
        known.extend(seats.iter().map(|seat| (seat.profile.id, seat.wire())));
        let full = |one: &Value| match crate::objects::id(one) {
            Some(id) => known.get(&id).cloned().unwrap_or_default(),
            None => one.clone(),
        };
        let from: Vec<Value> = given.iter().map(full).collect();
        let mut all = data.all().clone();
        all.insert("from".into(), from.into());
        let making = Making {
            seed: self.seed,
            op: self.op.clone(),
            home: None,
        };
        match making.of_user("alert.notify", &Fields::map(&all))? {
            Some((user, ask)) => self.user(user, &ask).await,
            None => Err(Problem::bad("`from` has users or their ids")),
        }
    }

    /// An event for single users. Each is told in a commit of his own: when some could not be
    /// told, the answer is 503, and the same idempotency key tells the rest, once each.
    async fn emit(&self, data: &Fields<'_>) -> Result<Value, Problem> {
        let passed = Passed::of(data)?;
        let mut users = data.object("audience")?.ids("user_ids")?;
        users.sort_unstable();
        users.dedup();
        users.retain(|user| Some(*user) != passed.except);
        if users.len() > AUDIENCE_MAX {
            return Err(Problem::bad("`user_ids` has at most 1000 ids"));
        }
        // Nobody is told of what not all can be told of.
        self.seats(&users, None).await?;
        let ask = UserAsk::Tell {
            event: passed.event.to_owned(),
            payload: passed.payload,
            retained: passed.retained,
            result: json!({}),
            op: self.op.clone(),
        };
        let mut under_way = tokio::task::JoinSet::new();
        let mut told = Ok(());
        for user in users {
            if under_way.len() >= TOLD_AT_ONCE {
                told = told.and(heard(under_way.join_next().await));
            }
            let hub = self.shared.hub.clone();
            let command = user::command(user, &ask);
            under_way.spawn(async move { hub.command(command).await });
        }
        while let Some(one) = under_way.join_next().await {
            told = told.and(heard(Some(one)));
        }
        told.map(|()| json!({}))
    }

    /// Who these users are; an unknown one is a refusal.
    ///
    /// For a channel that they are to be members of, one who has no room for it is a refusal, too.
    /// Of adds at the same time a few may pass this; [`user`] sees to those.
    async fn seats(&self, users: &[u64], of: Option<u64>) -> Result<Vec<Seat>, Problem> {
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
                    let (user, seat) = seat(pair).ok_or(Refusal::NoUser)?;
                    if of.is_some_and(|channel| !user.has_room(channel)) {
                        let words = format!(
                            "user {} is a member of {} channels, and nobody of more",
                            user.profile.id,
                            user::SPANS_MAX,
                        );
                        return Err(Problem::bad(words));
                    }
                    seats.push(seat);
                }
            }
        }
        Ok(seats)
    }
}

fn seat(pair: &[Option<tidings_adapter::Record>]) -> Option<(User, Seat)> {
    let user = User::parse(&pair.first()?.as_ref()?.document)?;
    let presence = pair.get(1)?.as_ref().map(|record| &record.document);
    let presence = Presence::of(presence);
    let seat = Seat {
        active: user.active,
        profile: user.profile.clone(),
        online: presence.online,
        version: presence.version,
    };
    Some((user, seat))
}

/// Whether a user was told.
fn heard(
    one: Option<Result<Result<Decided, CommandError>, tokio::task::JoinError>>,
) -> Result<(), Problem> {
    match one {
        Some(Ok(Ok(decided))) => match Answer::parse(&decided.answer) {
            Some(Answer::Refused(refusal)) => Err(refusal.into()),
            _ => Ok(()),
        },
        Some(Ok(Err(error))) => Err(error.into()),
        Some(Err(_)) => Err(Problem::away()),
        None => Ok(()),
    }
}

impl Seat {
    fn wire(&self) -> Value {
        self.profile.wire(self.online, self.active)
    }
}
