//! What becomes of jobs, as transcripts: commands, time, and what is said.

mod ends;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidings_adapter::bytes::Bytes;

use super::*;
use crate::job::answers::Answers;
use crate::job::ask::{Change, Content, Publish};
use crate::options::CardsavrOptions;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// One job's records, deadlines and events, and the time.
struct World {
    jobs: Jobs,
    records: BTreeMap<RecordKey, Bytes>,
    deadlines: BTreeMap<String, u64>,
    events: Vec<Value>,
    leads: usize,
    now_ms: u64,
}

impl World {
    fn new(changes: impl FnOnce(&mut CardsavrOptions)) -> Self {
        let mut options = CardsavrOptions::default();
        changes(&mut options);
        let settings = Settings::of(&options).expect("good");
        let mut world = Self {
            jobs: Jobs(Arc::new(settings)),
            records: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            events: Vec::new(),
            leads: 0,
            now_ms: 1_000 * MINUTE,
        };
        let secrets = Secrets {
            account_link: object(json!({"username": "u", "password": "p"})),
            card: object(json!({"pan": "4111111111111111"})),
        };
        let created = world.ask(&Ask::Create {
            job: Box::new(Job {
                owner: 11,
                status: "REQUESTED".into(),
                ..Job::default()
            }),
            secrets,
            key: Some("hash".into()),
            place: 5,
        });
        assert!(matches!(created, Said::Job(_)), "{created:?}");
        world
    }

    fn run(&mut self, trigger: Trigger<'_>) -> Decision {
        let mut keys = vec![keys::job(7)];
        loop {
            let state: Vec<_> = keys
                .iter()
                .map(|key| (key.clone(), self.records.get(key).cloned()))
                .collect();
            let decision = self
                .jobs
                .decide(&Records::new(&state), trigger, self.now_ms);
            if decision.loads.is_empty() {
                return decision;
            }
            keys.extend(decision.loads);
        }
    }

    fn apply(&mut self, decision: &Decision) {
        for put in &decision.puts {
            assert!(put.lifetime.is_some_and(|time| time.as_secs() > 0));
            self.records.insert(put.key.clone(), put.document.clone());
        }
        for key in &decision.removes {
            self.records.remove(key);
        }
        let mut seen = BTreeSet::new();
        for one in &decision.deadlines {
            assert!(seen.insert(one.name.clone()), "{} is set twice", one.name);
            match one.at_ms {
                Some(at) => drop(self.deadlines.insert(one.name.to_string(), at)),
                None => drop(self.deadlines.remove(&*one.name)),
            }
        }
        for draft in &decision.drafts {
            assert_eq!(
                (draft.topic.as_str(), &*draft.kind),
                ("cardsavr/job/7", JOB_STATUS)
            );
            let event: Value = serde_json::from_slice(&draft.data).expect("JSON");
            let text = event.to_string();
            assert!(
                !text.contains("4111") && !text.contains("good_password"),
                "{text}"
            );
            self.events.push(event);
        }
        self.leads += decision.outbox.len();
    }

    fn ask(&mut self, ask: &Ask) -> Said {
        let body = to_json(ask);
        let decision = self.run(Trigger::Command(&body));
        self.apply(&decision);
        serde_json::from_slice(&decision.answer).expect("an answer")
    }

    /// Time passes, and every deadline in it.
    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        loop {
            let next = self.deadlines.iter().min_by_key(|(_, at)| **at);
            let Some((name, at)) = next.map(|(name, at)| (name.clone(), *at)) else {
                break;
            };
            if at > end {
                break;
            }
            self.now_ms = self.now_ms.max(at);
            self.deadlines.remove(&name);
            let decision = self.run(Trigger::Deadline {
                name: &name,
                at_ms: at,
            });
            self.apply(&decision);
        }
        self.now_ms = end;
    }

    fn says(&mut self, body: Value) -> Said {
        let change = Change::of(&body).expect("good");
        self.ask(&Ask::Change {
            change: Box::new(change),
            drives: true,
            envelope: format!("auto{}", self.now_ms),
            publish: Publish::default(),
        })
    }

    fn status(&mut self, status: &str) -> Said {
        self.says(json!({"status": status}))
    }

    fn agent(&mut self, body: Value) -> Said {
        self.ask(&Ask::Change {
            change: Box::new(Change::of(&body).expect("good")),
            drives: false,
            envelope: "agent".into(),
            publish: Publish::default(),
        })
    }

    fn request(&mut self, envelope: &str, kind: &str, announce: Option<&str>) -> Said {
        let announce = announce.map(|status| {
            Box::new(Change {
                status: Some(status.to_owned()),
                ..Change::default()
            })
        });
        self.ask(&Ask::Request {
            envelope: envelope.into(),
            kind: kind.into(),
            message: "m".into(),
            account_link: vec![json!({"key_name": "tfa"})],
            announce,
            publish: Publish::default(),
        })
    }

    fn answer(&mut self, envelope: &str, code: &str) -> Said {
        self.ask(&Ask::Answer {
            envelope: envelope.into(),
            kind: None,
            content: Content {
                message: Some(code.into()),
                account_link: None,
            },
        })
    }

    fn job(&self) -> Job {
        let document = self.records.get(&keys::job(7)).expect("it is there");
        Job::parse(document).expect("a job")
    }

    fn answers(&self) -> Option<Answers> {
        Answers::parse(self.records.get(&keys::answers(7))?)
    }

    /// Statuses and percents as they were published.
    fn told(&self) -> Vec<(String, f64)> {
        let one = |event: &Value| {
            let message = &event["message"];
            let status = message["status"].as_str().expect("a text").to_owned();
            (
                status,
                message["percent_complete"].as_f64().expect("a number"),
            )
        };
        self.events.iter().map(one).collect()
    }

    fn last(&self) -> &Value {
        &self.events.last().expect("an event")["message"]
    }
}

fn object(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

fn no(refusal: Refusal) -> Said {
    Said::No(refusal)
}

#[test]
fn a_job_begins_with_its_key_and_its_secrets() {
    let mut world = World::new(|_| {});
    let job = world.job();
    assert_eq!(
        (job.id, job.created, job.timeout),
        (7, world.now_ms, world.now_ms + 5 * MINUTE)
    );
    assert!(world.records.contains_key(&keys::access_key(7, "hash")));
    assert!(world.records.contains_key(&keys::secrets(7)));
    assert_eq!(
        world.deadlines,
        BTreeMap::from([("job".to_owned(), job.timeout)])
    );
    assert!(
        world.events.is_empty(),
        "a key begins with what comes after it"
    );
    let again = Ask::Create {
        job: Box::default(),
        secrets: Secrets::default(),
        key: None,
        place: 0,
    };
    assert_eq!(world.ask(&again), no(Refusal::Taken));
}

#[test]
fn the_typical_order_to_its_end() {
    let mut world = World::new(|_| {});
    world.pass(10 * SECOND);
    for (status, percent) in [("QUEUED", 1.5), ("AUTH", 13.5), ("UPDATING", 100.0)] {
        world.says(json!({"status": status, "percent_complete": percent}));
        world.pass(SECOND);
    }
    assert_eq!(world.job().started, Some(1_000 * MINUTE + 11 * SECOND));
    world.says(json!({"auth_percent_complete": 100, "status_message": "Nearly."}));
    assert_eq!(
        *world.last(),
        json!({"status": "UPDATING", "percent_complete": 99, "auth_percent_complete": 100,
            "job_timeout": 287_000, "status_message": "Nearly."})
    );
    world.says(json!({"status": "SUCCESSFUL", "percent_complete": 80}));
    assert_eq!(world.last()["termination_type"], "BILLABLE");
    assert_eq!(
        world.told(),
        [
            ("QUEUED", 1.5),
            ("AUTH", 13.5),
            ("UPDATING", 99.0),
            ("UPDATING", 99.0),
            ("SUCCESSFUL", 100.0)
        ]
        .map(|(status, percent)| (status.to_owned(), percent))
    );
    let job = world.job();
    assert_eq!(job.completed, Some(world.now_ms));
    assert!(world.deadlines.is_empty());
    assert!(!world.records.contains_key(&keys::secrets(7)));
    // Nothing revives it.
    for said in [
        world.status("AUTH"),
        world.agent(json!({"status": "REQUESTED"})),
        world.request("e", "tfa_request", None),
        world.answer("e", "1"),
        world.ask(&Ask::Credentials {
            account_link: serde_json::Map::new(),
        }),
    ] {
        assert_eq!(said, no(Refusal::Over));
    }
    assert_eq!(world.job(), job);
}

#[test]
fn agents_say_little() {
    let mut world = World::new(|_| {});
    for body in [
        json!({"status": "AUTH"}),
        json!({"status": "SUCCESSFUL"}),
        json!({"percent_complete": 5}),
        json!({"termination_type": "BILLABLE"}),
        json!({"job_timeout": 5}),
    ] {
        assert_eq!(world.agent(body), no(Refusal::NotAnAgents));
    }
    assert!(world.events.is_empty());
    world.agent(json!({"custom_data": {"a": 1}}));
    assert!(world.events.is_empty());
    assert_eq!(world.job().custom_data, json!({"a": 1}));
    world.agent(json!({"status": "CANCEL_REQUESTED"}));
    assert_eq!(world.last()["status"], "CANCEL_REQUESTED");
    assert_eq!(world.job().started, None);
}

#[test]
fn a_code_is_asked_for_answered_and_fetched_once() {
    let mut world = World::new(|_| {});
    world.status("AUTH");
    world.pass(SECOND);
    let Said::Job(job) = world.request("e1", "tfa_request", Some("PENDING_TFA")) else {
        panic!("refused")
    };
    assert_eq!(job.requests.len(), 1);
    assert_eq!(job.requests[0].until, world.now_ms + 4 * MINUTE);
    assert_eq!(world.leads, 1);
    // The user's time is not the job's.
    assert_eq!(world.last()["status"], "PENDING_TFA");
    assert_eq!(
        world.last()["job_timeout"],
        4 * MINUTE + 5 * MINUTE - SECOND
    );
    world.pass(MINUTE);
    assert_eq!(world.answer("wrong", "1234"), no(Refusal::NoEnvelope));
    assert_eq!(world.job().requests.len(), 1);
    assert!(matches!(world.answer("e1", "1234"), Said::Job(_)));
    assert_eq!(world.answer("e1", "1234"), no(Refusal::NoEnvelope));
    let job = world.job();
    assert!(job.requests.is_empty());
    assert_eq!(job.timeout, world.now_ms + 5 * MINUTE - SECOND);
    assert_eq!(
        world.deadlines,
        BTreeMap::from([("job".to_owned(), job.timeout)])
    );
    let (envelope, shown) = world
        .answers()
        .expect("one")
        .first(7, world.now_ms)
        .expect("one");
    assert_eq!(
        shown,
        json!({"job_id": 7, "type": "tfa_response", "envelope_id": "e1", "message": "1234"})
    );
    let take = Ask::Take {
        envelope: envelope.clone(),
    };
    assert_eq!(world.ask(&take), Said::Yes);
    assert_eq!(world.ask(&take), no(Refusal::NoAnswer));
    let arrived = Ask::Taken {
        envelope,
        arrived: true,
    };
    assert_eq!(world.ask(&arrived), Said::Yes);
    assert!(world.answers().is_none() && world.job().answers == 0);
    assert_eq!(world.ask(&arrived), Said::Yes, "said twice");
}

#[test]
fn an_answer_that_did_not_arrive_is_there_again() {
    let mut world = World::new(|_| {});
    world.request("e1", "tfa_request", None);
    world.answer("e1", "1234");
    let envelope = "e1".to_owned();
    world.ask(&Ask::Take {
        envelope: envelope.clone(),
    });
    assert!(
        world
            .answers()
            .expect("kept")
            .first(7, world.now_ms)
            .is_none()
    );
    world.ask(&Ask::Taken {
        envelope,
        arrived: false,
    });
    assert!(
        world
            .answers()
            .expect("kept")
            .first(7, world.now_ms)
            .is_some()
    );
}

#[test]
fn credentials_are_kept_for_the_virtual_browser_and_go_with_the_job() {
    let mut world = World::new(|_| {});
    world.request("e1", "credential_request", Some("PENDING_NEWCREDS"));
    let link = object(json!({"username": "good_email", "password": "good_password"}));
    world.ask(&Ask::Answer {
        envelope: "e1".into(),
        kind: Some("credential_request".into()),
        content: Content {
            message: None,
            account_link: Some(link.clone()),
        },
    });
    let secrets: Secrets =
        serde_json::from_slice(&world.records[&keys::secrets(7)]).expect("secrets");
    assert_eq!(
        (secrets.account_link, secrets.card["pan"].as_str()),
        (link, Some("4111111111111111"))
    );
    let (_, shown) = world
        .answers()
        .expect("one")
        .first(7, world.now_ms)
        .expect("one");
    assert_eq!(shown["type"], "credential_request");
    assert_eq!(shown["account_link"]["password"], "good_password");
    world.status("KILLED");
    let left: Vec<_> = world.records.keys().map(|key| key.id.to_string()).collect();
    assert_eq!(left, ["7", "7/k/hash"]);
}

#[test]
fn a_request_replaces_one_of_its_type_and_there_are_few() {
    let mut world = World::new(|_| {});
    world.request("e1", "tfa_request", None);
    world.pass(MINUTE);
    world.request("e2", "tfa_request", None);
    let open = |world: &World| -> Vec<String> {
        let job = world.job();
        job.open_requests(world.now_ms)
            .map(|one| one.envelope.clone())
            .collect()
    };
    assert_eq!(open(&world), ["e2"]);
    assert_eq!(world.answer("e1", "1"), no(Refusal::NoEnvelope));
    assert_eq!(world.deadlines["ask"], world.now_ms + 4 * MINUTE);
    for (envelope, kind) in [("a", "security"), ("b", "tfa"), ("c", "credential_request")] {
        world.request(envelope, kind, None);
    }
    assert_eq!(
        world.request("d", "other", None),
        no(Refusal::TooManyRequests)
    );
    assert_eq!(open(&world), ["e2", "a", "b", "c"], "oldest first");
}

#[test]
fn a_pending_status_never_stands_without_its_request() {
    // Nobody made one: the usual one.
    let mut world = World::new(|_| {});
    for (status, kind) in [
        ("PENDING_CREDS", "initial_account_link"),
        ("PENDING_TFA", "tfa_request"),
        ("PENDING_TFA_MESSAGE", "tfa_message"),
        ("PENDING_CARD", "credential_request"),
    ] {
        world.status(status);
        assert_eq!(world.last()["status"], status);
        let job = world.job();
        // What was pending before is still the one that is shown.
        let first = job.open_requests(world.now_ms).next().expect("a request");
        assert_eq!(first.kind, kind);
        // Moving on withdraws it.
        world.status("AUTH");
        assert!(world.job().requests.is_empty());
        assert!(!world.deadlines.contains_key("ask"));
    }
    // Answered before it was announced.
    world.request("e1", "tfa_request", None);
    world.answer("e1", "1234");
    let before = world.events.len();
    assert!(matches!(world.status("PENDING_TFA"), Said::Job(_)));
    assert_eq!(
        (world.events.len(), world.job().status.as_str()),
        (before, "AUTH")
    );
    // One that was made stays until it is announced.
    world.request("e2", "tfa_request", None);
    world.status("LOGIN_SUBMITTED");
    world.status("PENDING_TFA");
    assert_eq!(world.job().requests[0].envelope, "e2");
    assert_eq!(world.job().requests.len(), 1);
}

#[test]
fn publishers_elsewhere_are_answered_in_words() {
    let mut world = World::new(|_| {});
    let status = |status: &str| Ask::Change {
        change: Box::new(Change {
            status: Some(status.to_owned()),
            ..Change::default()
        }),
        drives: true,
        envelope: "e".into(),
        publish: Publish {
            foreign: true,
            dedup: Some(("scope".into(), "key".into(), 5)),
            ..Publish::default()
        },
    };
    let say = |world: &mut World, ask: &Ask| {
        let decision = world.run(Trigger::Command(&to_json(ask)));
        world.apply(&decision);
        (
            decision.drafts,
            String::from_utf8(decision.answer.to_vec()).expect("text"),
        )
    };
    let (drafts, _) = say(&mut world, &status("AUTH"));
    assert_eq!(drafts[0].dedup.as_ref().map(|one| &*one.key), Some("key"));
    world.request("e1", "tfa_request", None);
    world.answer("e1", "1234");
    let (drafts, words) = say(&mut world, &status("PENDING_TFA"));
    assert_eq!(
        (drafts.len(), words.as_str()),
        (0, "the request was answered before it was announced")
    );
    say(&mut world, &status("SUCCESSFUL"));
    assert_eq!(say(&mut world, &status("AUTH")).1, "the job has ended");
    world.records.clear();
    assert_eq!(say(&mut world, &status("AUTH")).1, "no such job");
}

#[test]
fn nonsense_is_refused() {
    let mut world = World::new(|_| {});
    for body in [&b""[..], b"{}", b"{\"take\":3}", b"\xff"] {
        let decision = world.run(Trigger::Command(body));
        assert!(decision.changes_nothing());
        assert_eq!(
            serde_json::from_slice::<Said>(&decision.answer).expect("an answer"),
            no(Refusal::Nonsense)
        );
    }
    world.records.clear();
    assert_eq!(world.status("AUTH"), no(Refusal::NoJob));
    let decision = world.run(Trigger::Deadline {
        name: "job",
        at_ms: 0,
    });
    assert!(decision.changes_nothing());
}
