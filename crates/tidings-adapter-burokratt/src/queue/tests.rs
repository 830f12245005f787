//! Places and estimates; and any run of events against a plain list.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::{OutboxItem, Record, Version};

use super::*;
use crate::chat::{self, Ask, Change, Owner, Said};

const T: u64 = 1_700_000_000_000;

const TERMS: Terms = Terms {
    most: 50,
    window_ms: 3_600_000,
    default_ms: 100_000,
};

#[test]
fn the_samples_are_met() {
    let none = Waits::default();
    assert_eq!(none.estimate(0, &TERMS, T), 100);
    assert_eq!(none.estimate(3, &TERMS, T), 300);
    assert_eq!(none.estimate(u64::MAX, &TERMS, T), u64::MAX);
    let some = Waits(vec![(1_000, T), (2_500, T)]);
    assert_eq!(some.estimate(0, &TERMS, T), 2, "1.75 s, rounded up");
    assert_eq!(some.estimate(3, &TERMS, T), 6, "5.25 s");
    assert_eq!(some.estimate(3, &TERMS, T + 3_600_001), 300, "forgotten");
    assert_eq!(Waits(vec![(0, T)]).estimate(5, &TERMS, T), 0);
}

#[test]
fn the_last_waits_are_kept() {
    let decide = |document: Option<&Waits>, body: &[u8], now_ms| {
        let document = document.map(|one| Bytes::from(serde_json::to_vec(one).expect("JSON")));
        let state = [(keys::waits(), document)];
        LastWaits(TERMS).decide(&State::new(&state), Trigger::Command(body), now_ms)
    };
    let mut waits = Waits(vec![(1, T - 3_600_001)]);
    for n in 0..60 {
        let decision = decide(Some(&waits), &waited(n, T + n).body, T + n);
        assert_eq!(decision.flash.len(), 1);
        assert_eq!(decision.flash[0].topic.as_str(), keys::QUEUE);
        waits = Waits::parse(Some(&decision.puts[0].document));
    }
    assert_eq!(waits.0.len(), 50);
    assert_eq!((waits.0[0], waits.0[49]), ((10, T + 10), (59, T + 59)));
    assert!(decide(None, b"garbage", T).changes_nothing());
    assert_eq!(Waits::parse(Some(b"garbage")), Waits::default());
}

#[derive(Debug, Clone)]
enum Step {
    Init,
    Enqueue,
    Dequeue,
    Claim,
    Redirect,
    End,
    Post,
}

fn ask(step: &Step) -> Ask {
    let (said, owner) = (Said::default(), Owner::default());
    match step {
        Step::Init => Ask::Init {
            chat: Box::default(),
            said,
        },
        Step::Enqueue => Ask::Enqueue,
        Step::Dequeue => Ask::Dequeue,
        Step::Claim => Ask::Claim { owner },
        Step::Redirect => Ask::Post {
            said,
            change: Change::Redirect(owner),
        },
        Step::End => Ask::Post {
            said,
            change: Change::End,
        },
        Step::Post => Ask::Post {
            said,
            change: Change::Nothing,
        },
    }
}

/// A log of records and ranks, as small as can be.
#[derive(Debug, Default)]
struct Shelf {
    documents: BTreeMap<tidings_adapter::RecordKey, Bytes>,
    ranks: BTreeMap<(String, tidings_adapter::RecordKey), u64>,
    claims: Vec<(u64, u64)>,
}

impl Shelf {
    fn perform(&mut self, channel: &Channel, step: &Step, now_ms: u64) {
        let chats = chat::Chats {
            open: std::time::Duration::from_secs(1),
            ended: std::time::Duration::from_secs(1),
        };
        let command = chat::command(channel, &ask(step));
        let loaded: Vec<_> = command
            .records
            .iter()
            .map(|key| (key.clone(), self.documents.get(key).cloned()))
            .collect();
        let state = State::new(&loaded);
        let decision = chats.decide(&state, Trigger::Command(&command.body), now_ms);
        for put in decision.puts {
            self.documents.insert(put.key, put.document);
        }
        for key in decision.removes {
            self.documents.remove(&key);
            self.ranks.retain(|(_, ranked), _| *ranked != key);
        }
        for set in decision.ranks {
            let place = (set.index.to_string(), set.record);
            match set.rank {
                Some(rank) => self.ranks.insert(place, rank),
                None => self.ranks.remove(&place),
            };
        }
        for item in decision.outbox {
            if let OutboxItem::Command(command) = item
                && &*command.kind == keys::record::WAITS
            {
                self.claims
                    .push(serde_json::from_slice(&command.body).expect("a wait"));
            }
        }
    }

    fn queue(&self) -> Line {
        let ranked = self
            .ranks
            .iter()
            .filter(|((index, _), _)| index == "waiting");
        let mut entries: Vec<Listed> = ranked
            .map(|((_, key), rank)| Listed {
                rank: *rank,
                key: key.clone(),
                record: Record {
                    version: Version(1),
                    document: self.documents[key].clone(),
                },
            })
            .collect();
        entries.sort_by_key(|one| (one.rank, one.key.id.clone()));
        Line::of(&entries, Waits::default())
    }
}

proptest! {
    /// Places are the ranks among those who wait, whatever happened.
    #[test]
    fn places_are_those_of_a_plain_list(steps in prop::collection::vec(
        (0_usize..6, prop_oneof![
            3 => Just(Step::Init),
            3 => Just(Step::Enqueue),
            1 => Just(Step::Dequeue),
            2 => Just(Step::Claim),
            1 => Just(Step::Redirect),
            1 => Just(Step::End),
            2 => Just(Step::Post),
        ], 0_u64..3),
        0..60,
    )) {
        let channels: Vec<Channel> = (0..6)
            .map(|n| Channel::parse(&format!("c{n}")).expect("an id"))
            .collect();
        let mut shelf = Shelf::default();
        // (since, id) of those who wait; which chats are there, and which are over.
        let mut plain: Vec<(u64, usize)> = Vec::new();
        let mut chats: BTreeMap<usize, bool> = BTreeMap::new();
        let mut claims = 0;
        let mut now_ms = T;
        for (at, step, later) in steps {
            now_ms += later;
            shelf.perform(&channels[at], &step, now_ms);
            let open = chats.get(&at).is_some_and(|over| !over);
            let waits = plain.iter().any(|(_, one)| *one == at);
            match step {
                Step::Init if !chats.contains_key(&at) => {
                    chats.insert(at, false);
                    // A chat that was enqueued before it began begins its wait anew.
                    plain.retain(|(_, one)| *one != at);
                    plain.push((now_ms, at));
                }
                Step::Enqueue if !waits && chats.get(&at) != Some(&true) => {
                    plain.push((now_ms, at));
                }
                Step::Dequeue => plain.retain(|(_, one)| *one != at),
                Step::Claim | Step::Redirect | Step::End if open => {
                    if waits && matches!(step, Step::Claim) {
                        claims += 1;
                    }
                    plain.retain(|(_, one)| *one != at);
                    if matches!(step, Step::End) {
                        chats.insert(at, true);
                    }
                }
                _ => {}
            }
            plain.sort_unstable();
            let queue = shelf.queue();
            for (number, channel) in channels.iter().enumerate() {
                let place = plain.iter().position(|(_, one)| *one == number);
                let place = place.map_or(0, |at| at as u64 + 1);
                prop_assert_eq!(queue.place(channel.as_str()), place);
            }
            prop_assert_eq!(shelf.claims.len(), claims);
            prop_assert_eq!(queue.places.len(), plain.len());
        }
    }
}
