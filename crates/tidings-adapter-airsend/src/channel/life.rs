//! A channel's life: it is made, opened, changed, and removed.

use serde_json::{Map, Value, json};
use tidings_adapter::Decision;

use super::roster::{ENROL_MAX, Page};
use super::{Channel, Count, Desk, Seat, Standing, Stop, command};
use crate::answer::{Refusal, done};
use crate::keys;
use crate::objects::channel_defaults;
use crate::user::{self, Ask as UserAsk};

/// Bytes of a channel's own fields: the record has 64 KiB for them and its pages' fill.
const FIELDS_BYTES_MAX: usize = 32 * 1024;

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
}

fn bounded(fields: &Map<String, Value>) -> Result<(), Refusal> {
    match crate::answer::to_json(fields).len() <= FIELDS_BYTES_MAX {
        true => Ok(()),
        false => Err(Refusal::Full),
    }
}
