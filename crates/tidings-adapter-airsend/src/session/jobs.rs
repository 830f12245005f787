//! Clients' commands, carried out one after the other, each to its end.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_adapter::{Action, Actions, Attributes, Call, Draft, Now};

use super::{Command, Connection, Stage, acked};
use crate::answer::{Answer, Refusal, to_json};
use crate::channel::{self, Ask};
use crate::{index, keys};

/// Channels whose unread messages are counted in one commit, which may look at 64 records.
const COUNTED_AT_ONCE: usize = 30;

/// Clients' commands as events, for a backend that carries them out.
const COMMANDS: &str = "airsend/commands";

/// How long a backend has to take a command that is forwarded to it.
const FORWARD_PATIENCE: Duration = Duration::from_secs(5);

/// Channels whose last typing is remembered; then all are forgotten, and the log decides.
const TYPING_MAX: usize = 64;

/// Calls with commands that are carried out here, too, and do not wait for them: as many as there may
/// be; with more the commands wait.
const CALLS_MAX: usize = 16;

/// Tags of forwarded commands.
const FORWARDED: u32 = u32::MAX;

/// The first tag of commands' own.
const FIRST: u32 = 16;

/// What is asked for, and how far the first of it is.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    queue: VecDeque<(Command, Option<Value>)>,
    step: Option<Step>,
    tag: u32,
    /// When typing was last passed on, by channel.
    typed: Vec<(u64, Duration)>,
    /// Calls under way.
    calls: usize,
}

/// What the first command waits for.
#[derive(Debug)]
enum Step {
    /// The backend has it: in its topic, by a call.
    Forwarded { waits_for: u8, failed: bool },
    /// In which channel its message is.
    Where,
    /// The channel's decision.
    Decision,
    /// What is unread elsewhere.
    Totals {
        channel: u64,
        unread: u64,
        oldest: u64,
        total: u64,
        rest: VecDeque<Vec<u64>>,
    },
    /// Its event in the user's own topic.
    Event,
}

impl Jobs {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn push(&mut self, command: Command, cid: Option<Value>) {
        self.queue.push_back((command, cid));
    }
}

impl Connection {
    /// Begins with the next command, if none is under way.
    pub(super) fn go_on(&mut self, now: Now, actions: &mut Actions) {
        if !matches!(self.stage, Stage::Live) {
            return;
        }
        while self.jobs.step.is_none()
            && let Some((command, _)) = self.jobs.queue.front().cloned()
        {
            if self.jobs.calls >= CALLS_MAX {
                return;
            }
            match self.forward(&command, now, actions) {
                Some(step) => self.jobs.step = Some(step),
                None => self.carry_out(command, now, actions),
            }
        }
    }

    /// Carries out the first command here, if that is done here.
    fn carry_out(&mut self, command: Command, now: Now, actions: &mut Actions) {
        if !self.origin.settings.apply {
            return self.finish(Ok(()), actions);
        }
        match command {
            Command::React { message, .. } | Command::Unreact { message, .. } => {
                let id = keys::message_index(message);
                self.commit(Step::Where, index::command(&id, &index::Ask::Look), actions);
            }
            Command::Typing { channel } if !self.may_type(channel, now) => {
                self.finish(Err(Refusal::Throttled), actions);
            }
            Command::Typing { channel }
            | Command::Read { channel, .. }
            | Command::ReadAll { channel } => self.decide(channel, actions),
        }
    }

    /// Asks the channel.
    fn decide(&mut self, channel: u64, actions: &mut Actions) {
        let (Some((command, _)), Some(grant)) = (self.jobs.queue.front(), &self.grant) else {
            return;
        };
        let user = grant.user;
        let ask = match command.clone() {
            Command::Typing { .. } => Ask::Typing { user },
            Command::Read { message, .. } => Ask::Read { user, message },
            Command::ReadAll { .. } => Ask::ReadAll { user },
            Command::React { message, emoji } => Ask::React {
                user,
                message,
                emoji,
            },
            Command::Unreact { message, emoji } => Ask::Unreact {
                user,
                message,
                emoji,
            },
        };
        self.commit(Step::Decision, channel::command(channel, &ask), actions);
    }

    fn commit(&mut self, step: Step, command: tidings_adapter::Command, actions: &mut Actions) {
        self.jobs.step = Some(step);
        let tag = self.jobs.tag.max(FIRST);
        self.jobs.tag = if tag == FORWARDED - 1 { FIRST } else { tag + 1 };
        actions.push(Action::Commit { tag, command });
    }

    /// What the log would refuse anyway need not be asked.
    fn may_type(&mut self, channel: u64, now: Now) -> bool {
        let window = self.origin.settings.typing_window;
        let typed = &mut self.jobs.typed;
        typed.retain(|(_, at)| now.uptime < at.saturating_add(window));
        if typed.iter().any(|(one, _)| *one == channel) {
            return false;
        }
        if typed.len() >= TYPING_MAX {
            typed.clear();
        }
        // A little earlier than the log's window: this is no second judge of the same second.
        let begin = now.uptime.saturating_sub(window / 10);
        typed.push((channel, begin));
        true
    }

    fn finish(&mut self, result: Result<(), Refusal>, actions: &mut Actions) {
        self.jobs.step = None;
        if let Some((_, cid)) = self.jobs.queue.pop_front() {
            self.answer(acked(cid.as_ref(), result), actions);
        }
    }

    pub(super) fn job_done(&mut self, answer: Option<Answer>, actions: &mut Actions) {
        let result = match answer {
            Some(Answer::Done(result)) => result,
            Some(Answer::Refused(refusal)) => return self.finish(Err(refusal), actions),
            // Not known to be done.
            None => return self.finish(Err(Refusal::Away), actions),
        };
        let Some((command, _)) = self.jobs.queue.front() else {
            return;
        };
        match (self.jobs.step.take(), command.clone()) {
            (Some(Step::Where), _) => match result.as_u64() {
                Some(channel) => self.decide(channel, actions),
                None => self.finish(Err(Refusal::NoMessage), actions),
            },
            (
                Some(Step::Decision),
                Command::Read { channel, .. } | Command::ReadAll { channel },
            ) => {
                let number = |name: &str| result[name].as_u64().unwrap_or(0);
                let unread = number("unread");
                let step = Step::Totals {
                    channel,
                    unread,
                    oldest: number("oldest"),
                    total: unread,
                    rest: self.others(channel),
                };
                self.count(step, actions);
            }
            (
                Some(Step::Totals {
                    channel,
                    unread,
                    oldest,
                    total,
                    rest,
                }),
                _,
            ) => {
                let total = total + result["unread"].as_u64().unwrap_or(0);
                self.count(
                    Step::Totals {
                        channel,
                        unread,
                        oldest,
                        total,
                        rest,
                    },
                    actions,
                );
            }
            _ => self.finish(Ok(()), actions),
        }
    }

    /// The user's other channels, those of one partition together.
    fn others(&self, channel: u64) -> VecDeque<Vec<u64>> {
        let Some(follow) = &self.follow else {
            return VecDeque::new();
        };
        let mut channels: Vec<u64> = follow.channels().filter(|id| *id != channel).collect();
        channels.sort_unstable_by_key(|id| (follow.partition_of(*id), *id));
        channels.dedup();
        let together = channels.chunk_by(|a, b| follow.partition_of(*a) == follow.partition_of(*b));
        together
            .flat_map(|some| some.chunks(COUNTED_AT_ONCE))
            .map(<[u64]>::to_vec)
            .collect()
    }

    /// Counts on, or tells the reader.
    fn count(&mut self, step: Step, actions: &mut Actions) {
        let (
            Step::Totals {
                channel,
                unread,
                oldest,
                total,
                mut rest,
            },
            Some(grant),
        ) = (step, &self.grant)
        else {
            return;
        };
        let user = grant.user;
        if let Some(channels) = rest.pop_front()
            && let Some(first) = channels.first().copied()
        {
            let command = channel::command(first, &Ask::Unread { user, channels });
            let step = Step::Totals {
                channel,
                unread,
                oldest,
                total,
                rest,
            };
            return self.commit(step, command, actions);
        }
        let payload = json!({
            "total_unread_count": total,
            "channel_id": channel,
            "channel_unread_count": unread,
            "oldest_unread_message_id": oldest,
        });
        let topic = keys::user_topic(user);
        let mut draft = Draft::new(topic, "chat.unreadCountUpdate", to_json(&payload));
        draft.attributes = Some(Box::new(Attributes {
            subject: Some(format!("after:{channel}").into()),
            ..Attributes::default()
        }));
        self.jobs.step = Some(Step::Event);
        actions.push(Action::Publish { tag: FIRST, draft });
    }

    pub(super) fn job_published(&mut self, stored: bool, now: Now, actions: &mut Actions) {
        if let Some(Step::Event) = self.jobs.step {
            return self.finish(stored.then_some(()).ok_or(Refusal::Away), actions);
        }
        self.handed_over(stored, now, actions);
    }

    /// A call to the backend came to something.
    pub(super) fn job_called(&mut self, taken: bool, now: Now, actions: &mut Actions) {
        self.jobs.calls = self.jobs.calls.saturating_sub(1);
        if !self.origin.settings.apply {
            self.handed_over(taken, now, actions);
        }
    }

    fn handed_over(&mut self, taken: bool, now: Now, actions: &mut Actions) {
        let Some(Step::Forwarded { waits_for, failed }) = &mut self.jobs.step else {
            return;
        };
        *waits_for = waits_for.saturating_sub(1);
        *failed |= !taken;
        if *waits_for > 0 {
            return;
        }
        if *failed {
            return self.finish(Err(Refusal::Away), actions);
        }
        self.jobs.step = None;
        if let Some((command, _)) = self.jobs.queue.front().cloned() {
            self.carry_out(command, now, actions);
        }
    }

    /// Hands a command to the backend: the topic has it before it is carried out, so that it has
    /// them in their order; a call is waited for where it is all that is done. `None`: there is
    /// nothing to wait for.
    fn forward(&mut self, command: &Command, now: Now, actions: &mut Actions) -> Option<Step> {
        let settings = &self.origin.settings;
        let grant = self.grant.as_ref()?;
        if !settings.forward && settings.forward_to.is_none() {
            return None;
        }
        let mut said = command.fields();
        said["command"] = command.name().into();
        said["user_id"] = grant.user.into();
        said["ts"] = (now.unix_ms / 1000).into();
        if settings.forward {
            let draft = Draft::new(keys::topic(COMMANDS), command.name(), to_json(&said));
            actions.push(Action::Publish {
                tag: FORWARDED,
                draft,
            });
        }
        if let Some(url) = &settings.forward_to {
            let call = Call {
                method: "POST".into(),
                url: url.as_str().into(),
                headers: vec![("content-type".into(), "application/json".into())],
                body: to_json(&said).into(),
                patience: FORWARD_PATIENCE,
            };
            self.jobs.calls += 1;
            actions.push(Action::Call {
                tag: FORWARDED,
                call,
            });
        }
        let called = settings.forward_to.is_some() && !settings.apply;
        let waits_for = u8::from(settings.forward) + u8::from(called);
        let failed = false;
        (waits_for > 0).then_some(Step::Forwarded { waits_for, failed })
    }
}
