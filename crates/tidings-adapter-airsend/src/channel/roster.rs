//! Who is in a channel: making it, its members coming and going, its end.
//!
//! The roster stands in pages of [`PAGE_SEATS`], so that a channel of ten thousand members has no
//! record above its bound, and a change rewrites one page.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tidings_adapter::Decision;

use super::{Channel, Count, Desk, Member, Seat, Standing, Stop, command};
use crate::answer::{Refusal, done};
use crate::keys;
use crate::objects::{Profile, channel_defaults, on};
use crate::user::{self, Ask as UserAsk};

/// Members on one page: with the longest names and addresses it has 40 KiB.
const PAGE_SEATS: usize = 50;

/// Pages: 20,000 members. Their fill stands in the channel's record.
const PAGES_MAX: usize = 400;

/// Pages whose members stand in a Channel object: 1,000 members are 250 KiB of an event.
const PAGES_SHOWN: usize = 20;

/// Members written in one commit, which may write 64 records.
pub(crate) const ENROL_MAX: usize = 40;

/// Bytes of the latest message, if it is to stand in a Channel object beside its members: an event
/// has a megabyte, and the message was an event of its own.
const LATEST_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a channel's own fields: the record has 64 KiB for them and its pages' fill.
const FIELDS_BYTES_MAX: usize = 32 * 1024;

/// A member as a page has him.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seated {
    profile: Profile,
    nonce: String,
    online: bool,
    active: u64,
}

type Page = Vec<Seated>;

impl Desk<'_> {
    pub(super) fn create(
        &self,
        given: Map<String, Value>,
        nonce: String,
    ) -> Result<Decision, Stop> {
        let known: Option<Channel> = self.get(&keys::channel(self.id))?;
        let mut decision = Decision::default();
        match known {
            // An earlier try got so far.
            Some(channel) if channel.state == Standing::Making => {
                done(&mut decision, json!({ "nonce": channel.nonce }));
                return Ok(decision);
            }
            Some(channel) if channel.state == Standing::Removed => {
                return Err(Refusal::Sweeping.into());
            }
            Some(_) => return Err(Refusal::Exists.into()),
            None => {}
        }
        let now = self.now_ms / 1000;
        let mut fields = channel_defaults(self.id, now);
        fields.extend(given);
        fields.insert("id".into(), self.id.into());
        bounded(&fields)?;
        let channel = Channel {
            fields,
            nonce: nonce.clone(),
            ..Channel::default()
        };
        let count = Count {
            active: now,
            ..Count::default()
        };
        self.put(&mut decision, keys::channel(self.id), &channel);
        self.put(&mut decision, keys::count(self.id), &count);
        done(&mut decision, json!({ "nonce": nonce }));
        Ok(decision)
    }

    pub(super) fn enrol(&self, nonce: &str, seats: Vec<Seat>) -> Result<Decision, Stop> {
        let channel: Option<Channel> = self.get(&keys::channel(self.id))?;
        let mut channel = match channel {
            Some(channel) if channel.state == Standing::Making && channel.nonce == nonce => channel,
            // A late try of what is done.
            _ => return Ok(Decision::default()),
        };
        if seats.len() > ENROL_MAX {
            return Err(Refusal::Full.into());
        }
        self.need(
            seats
                .iter()
                .map(|seat| keys::member(self.id, seat.profile.id)),
        )?;
        let mut decision = Decision::default();
        let mut pages: Vec<(usize, Page)> = Vec::new();
        for seat in seats {
            let key = keys::member(self.id, seat.profile.id);
            if self.has(&key)? || decision.puts.iter().any(|put| put.key == key) {
                continue;
            }
            self.seat(
                &mut decision,
                &mut channel,
                &mut pages,
                seat,
                nonce.to_owned(),
                0,
            )?;
        }
        self.put_pages(&mut decision, &pages);
        self.put(&mut decision, keys::channel(self.id), &channel);
        Ok(decision)
    }

    pub(super) fn open(&self, nonce: &str) -> Result<Decision, Stop> {
        let channel: Option<Channel> = self.get(&keys::channel(self.id))?;
        let mut channel = channel.ok_or(Refusal::NoChannel)?;
        let mut decision = Decision::default();
        done(&mut decision, json!({ "channel_id": self.id }));
        match channel.state {
            Standing::Open if channel.nonce == nonce => return Ok(decision),
            Standing::Making if channel.nonce == nonce => {}
            _ => return Err(Refusal::NoChannel.into()),
        }
        channel.state = Standing::Open;
        let payload = json!({ "channel": self.object(&channel, &[], None)? });
        let subject = format!("join:{nonce}");
        decision.publish(self.draft("channel.create", &payload, Some(subject)));
        self.put(&mut decision, keys::channel(self.id), &channel);
        Ok(decision)
    }

    pub(super) fn update(&self, set: Map<String, Value>) -> Result<Decision, Stop> {
        let mut channel = self.channel()?;
        channel.fields.extend(set);
        channel.fields.insert("id".into(), self.id.into());
        bounded(&channel.fields)?;
        let mut decision = Decision::default();
        let payload = json!({ "channel": self.object(&channel, &[], None)? });
        decision.publish(self.draft("channel.update", &payload, None));
        self.put(&mut decision, keys::channel(self.id), &channel);
        Ok(decision)
    }

    /// The end is told at once; the members' records follow page by page.
    pub(super) fn end(&self) -> Result<Decision, Stop> {
        let mut channel = self.channel()?;
        channel.state = Standing::Removed;
        channel.fields.clear();
        let mut decision = Decision::default();
        let payload = json!({ "channel_id": self.id });
        decision.publish(self.draft("channel.remove", &payload, Some("end".into())));
        decision.command(command(self.id, &super::Ask::Sweep { page: 0 }));
        self.put(&mut decision, keys::channel(self.id), &channel);
        Ok(decision)
    }

    pub(super) fn sweep(&self, page: usize) -> Result<Decision, Stop> {
        let channel: Option<Channel> = self.get(&keys::channel(self.id))?;
        let Some(channel) = channel.filter(|channel| channel.state == Standing::Removed) else {
            return Ok(Decision::default());
        };
        let mut decision = Decision::default();
        let seated: Page = self.get(&keys::page(self.id, page))?.unwrap_or_default();
        for one in seated {
            let user = one.profile.id;
            let ask = UserAsk::Gone {
                channel: self.id,
                nonce: one.nonce,
            };
            decision.command(user::command(user, &ask));
            decision.remove(keys::member(self.id, user));
        }
        decision.remove(keys::page(self.id, page));
        if page + 1 < channel.pages.len() {
            decision.command(command(self.id, &super::Ask::Sweep { page: page + 1 }));
        } else {
            decision.remove(keys::channel(self.id));
            decision.remove(keys::count(self.id));
        }
        Ok(decision)
    }

    pub(super) fn add(&self, seat: Seat, nonce: String) -> Result<Decision, Stop> {
        let mut channel = self.channel()?;
        let user = seat.profile.id;
        self.need([keys::member(self.id, user), keys::count(self.id)])?;
        let mut decision = Decision::default();
        if self.has(&keys::member(self.id, user))? {
            return Ok(decision);
        }
        let payload = json!({
            "channel_id": self.id,
            "user": seat.profile.wire(seat.online, seat.active),
        });
        let mut pages = Vec::new();
        let (mark, subject) = (self.count()?.last, format!("join:{nonce}"));
        self.seat(&mut decision, &mut channel, &mut pages, seat, nonce, mark)?;
        decision.publish(self.draft("user_added.channel", &payload, Some(subject)));
        let payload = json!({ "channel": self.object(&channel, &pages, None)? });
        decision.publish(self.draft("channel.update", &payload, None));
        self.put_pages(&mut decision, &pages);
        self.put(&mut decision, keys::channel(self.id), &channel);
        Ok(decision)
    }

    pub(super) fn remove(&self, user: u64, nonce: &str, by: u64) -> Result<Decision, Stop> {
        let mut decision = Decision::default();
        let channel: Option<Channel> = self.get(&keys::channel(self.id))?;
        let stands = channel.filter(|channel| channel.state != Standing::Removed);
        let Some(mut channel) = stands else {
            return Ok(decision); // its end reaches everybody
        };
        let member: Option<Member> = self.get(&keys::member(self.id, user))?;
        let Some(member) = member.filter(|member| member.nonce == nonce) else {
            return Ok(decision); // an earlier try has done it
        };
        let mut page = self.page(member.page)?;
        page.retain(|one| one.profile.id != user);
        if let Some(fill) = channel.pages.get_mut(member.page) {
            *fill = page.len();
        }
        let pages = vec![(member.page, page)];
        // Of one that is not open yet nobody has heard.
        if channel.state == Standing::Open {
            let payload = json!({
                "removed_user_id": user,
                "removed_by_user_id": by,
                "channel_id": self.id,
            });
            // Those who were there from the start share a nonce.
            let subject = format!("leave:{user}:{nonce}");
            decision.publish(self.draft("user_removed.channel", &payload, Some(subject)));
            let payload = json!({ "channel": self.object(&channel, &pages, None)? });
            decision.publish(self.draft("channel.update", &payload, None));
        }
        decision.remove(keys::member(self.id, user));
        self.put_pages(&mut decision, &pages);
        self.put(&mut decision, keys::channel(self.id), &channel);
        Ok(decision)
    }

    /// A member's new name; older news change nothing.
    pub(super) fn profile(&self, profile: Profile, told: bool) -> Result<Decision, Stop> {
        let mut decision = Decision::default();
        let member: Option<Member> = self.get(&keys::member(self.id, profile.id))?;
        let Some(mut member) = member.filter(|member| member.profile.version < profile.version)
        else {
            return Ok(decision);
        };
        member.profile = profile;
        self.show(&mut decision, &member)?;
        if told {
            let payload = json!({
                "user": member.profile.wire(member.online, member.active),
                "channel_id": self.id,
            });
            decision.publish(self.draft("user.profileUpdate", &payload, None));
        }
        self.put(
            &mut decision,
            keys::member(self.id, member.profile.id),
            &member,
        );
        Ok(decision)
    }

    /// A member comes online or goes; each channel hears only what is news to it.
    pub(super) fn presence(
        &self,
        user: u64,
        online: bool,
        version: u64,
        active: u64,
    ) -> Result<Decision, Stop> {
        let mut decision = Decision::default();
        let member: Option<Member> = self.get(&keys::member(self.id, user))?;
        let Some(mut member) = member.filter(|member| member.version < version) else {
            return Ok(decision);
        };
        let news = member.online != online;
        (member.online, member.version, member.active) = (online, version, active);
        self.show(&mut decision, &member)?;
        // Who is not open yet tells nobody.
        let channel: Option<Channel> = self.get(&keys::channel(self.id))?;
        if news && channel.is_some_and(|channel| channel.state == Standing::Open) {
            let payload = json!({
                "user": member.profile.wire(online, active),
                "channel_id": self.id,
            });
            let event = if online {
                "user.online"
            } else {
                "user.offline"
            };
            self.flash(&mut decision, event, &payload, None);
        }
        self.put(&mut decision, keys::member(self.id, user), &member);
        Ok(decision)
    }

    /// Writes a member into the roster as he is now.
    fn show(&self, decision: &mut Decision, member: &Member) -> Result<(), Stop> {
        let mut page = self.page(member.page)?;
        let same = |one: &&mut Seated| one.profile.id == member.profile.id;
        if let Some(one) = page.iter_mut().find(same) {
            one.profile = member.profile.clone();
            (one.online, one.active) = (member.online, member.active);
        }
        self.put_pages(decision, &[(member.page, page)]);
        Ok(())
    }

    fn page(&self, page: usize) -> Result<Page, Stop> {
        Ok(self.get(&keys::page(self.id, page))?.unwrap_or_default())
    }

    fn put_pages(&self, decision: &mut Decision, pages: &[(usize, Page)]) {
        for (number, page) in pages {
            self.put(decision, keys::page(self.id, *number), page);
        }
    }

    /// Gives somebody a seat on the first page with room, and tells his own record.
    fn seat(
        &self,
        decision: &mut Decision,
        channel: &mut Channel,
        pages: &mut Vec<(usize, Page)>,
        seat: Seat,
        nonce: String,
        mark: u64,
    ) -> Result<(), Stop> {
        let room = channel.pages.iter().position(|fill| *fill < PAGE_SEATS);
        let number = room.unwrap_or(channel.pages.len());
        if number >= PAGES_MAX {
            return Err(Refusal::Full.into());
        }
        if room.is_none() {
            channel.pages.push(0);
        }
        let index = match pages.iter().position(|(one, _)| *one == number) {
            Some(index) => index,
            None => {
                pages.push((number, self.page(number)?));
                pages.len() - 1
            }
        };
        let Seat {
            profile,
            online,
            version,
            active,
        } = seat;
        pages[index].1.push(Seated {
            profile: profile.clone(),
            nonce: nonce.clone(),
            online,
            active,
        });
        channel.pages[number] = pages[index].1.len();
        let ask = UserAsk::Joined {
            channel: self.id,
            nonce: nonce.clone(),
            since_ms: self.now_ms,
            profile: profile.version,
        };
        decision.command(user::command(profile.id, &ask));
        let user = profile.id;
        let member = Member {
            profile,
            nonce,
            page: number,
            mark,
            read: Default::default(),
            online,
            version,
            active,
        };
        self.put(decision, keys::member(self.id, user), &member);
        Ok(())
    }

    /// The Channel object, with pages that are about to be written in place of those that stand.
    fn object(
        &self,
        channel: &Channel,
        changed: &[(usize, Page)],
        count: Option<Count>,
    ) -> Result<Value, Stop> {
        let shown = 0..channel.pages.len().min(PAGES_SHOWN);
        let changes = |page: &usize| changed.iter().any(|(one, _)| one == page);
        let stored = shown.clone().filter(|page| !changes(page));
        self.need(
            stored
                .map(|page| keys::page(self.id, page))
                .chain([keys::count(self.id)]),
        )?;
        let count = match count {
            Some(count) => count,
            None => self.count()?,
        };
        let latest = match count.latest {
            0 => Value::Null,
            id => match self.message(id) {
                Ok((_, body)) if body.bytes() > LATEST_BYTES_MAX => Value::Null,
                Ok((message, body)) => message.wire(self.id, &body),
                Err(Stop::Load(keys)) => return Err(Stop::Load(keys)),
                Err(Stop::Refuse(_)) => Value::Null, // deleted, or older than is kept
            },
        };
        let mut members = Vec::new();
        for number in shown {
            let page = match changed.iter().find(|(one, _)| *one == number) {
                Some((_, page)) => page.clone(),
                None => self.page(number)?,
            };
            members.extend(
                page.iter()
                    .map(|one| one.profile.wire(one.online, one.active)),
            );
        }
        let total: usize = channel.pages.iter().sum();
        let mut object = channel.fields.clone();
        if members.len() < total {
            object.insert("members_total".into(), total.into());
        }
        object.insert("members".into(), members.into());
        object.insert("latest_message".into(), latest);
        object.insert("last_active_on".into(), on(count.active).into());
        object.insert("last_active_on_ts".into(), count.active.into());
        Ok(Value::Object(object))
    }
}

fn bounded(fields: &Map<String, Value>) -> Result<(), Refusal> {
    match crate::answer::to_json(fields).len() <= FIELDS_BYTES_MAX {
        true => Ok(()),
        false => Err(Refusal::Full),
    }
}
