//! Any polls of one reader over any publishes, with answers that arrive, are lost, or are never heard
//! of again: each message arrives exactly once, and in the order of its job where polls do not race.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What happens. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Publish(u64),
    /// A poll looks.
    Look(u64),
    /// One that has looked hands out.
    Hand(usize),
    /// An answer comes to its client, or does not.
    Arrive(usize),
    Lose(usize),
    /// Its instance dies.
    Die(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u64).prop_map(Step::Publish),
        4 => (0..4_u64).prop_map(Step::Look),
        4 => any::<usize>().prop_map(Step::Hand),
        3 => any::<usize>().prop_map(Step::Arrive),
        2 => any::<usize>().prop_map(Step::Lose),
        1 => any::<usize>().prop_map(Step::Die),
        1 => prop_oneof![Just(100), Just(SAME_AGAIN_MS), Just(OVERDUE_MS)].prop_map(Step::Pass),
    ]
}

/// The jobs' logs, a reader, and whoever polls it.
#[derive(Debug, Default)]
struct World {
    logs: BTreeMap<u64, Vec<u64>>,
    next: u64,
    now_ms: u64,
    places: Places,
    /// Polls that have looked: what they found, and which messages that is.
    looked: Vec<(Found, Vec<(u64, u64)>)>,
    /// Answers on their way, by batch.
    on_the_way: Vec<(u64, Vec<(u64, u64)>)>,
    arrived: Vec<(u64, u64)>,
}

const JOBS: [u64; 3] = [0, 1, 2];

fn choose<T>(all: &mut Vec<T>, number: usize) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(number % all.len()))
}

impl World {
    /// What a poll does with its plan, as `poll` does it.
    fn look(&self, request: u64) -> Option<(Found, Vec<(u64, u64)>)> {
        let plan = self.places.plan(&JOBS, request, self.now_ms)?;
        let mut found = Found {
            turn: plan.turn,
            overdue: plan.overdue.clone(),
            back: plan.back,
            request,
            ..Found::default()
        };
        let mut messages = Vec::new();
        let read = |job: u64, after: u64, up_to: u64| -> Vec<(u64, u64)> {
            let log = self.logs.get(&job).into_iter().flatten();
            let ids = log.filter(|id| **id > after && **id <= up_to);
            ids.map(|id| (job, *id)).collect()
        };
        for one in &plan.again {
            messages.extend(read(one.job, one.after, one.up_to));
            found.stretches.push(*one);
        }
        for (job, after) in &plan.on {
            let new = read(*job, after.as_integer(), u64::MAX);
            if let Some((_, last)) = new.last() {
                found.heads.push((*job, *last));
                found.stretches.push(Stretch {
                    job: *job,
                    after: after.as_integer(),
                    up_to: *last,
                });
            }
            messages.extend(new);
        }
        Some((found, messages))
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Publish(job) => {
                self.next += 1;
                self.logs.entry(job).or_default().push(self.next);
            }
            Step::Look(request) => {
                let looked = self.look(request);
                self.looked.extend(looked);
            }
            Step::Hand(number) => {
                if let Some((found, messages)) = choose(&mut self.looked, number)
                    && let Some(batch) = self.places.take(&found, self.now_ms)
                    && !messages.is_empty()
                {
                    self.on_the_way.push((batch, messages));
                }
            }
            Step::Arrive(number) => {
                if let Some((batch, messages)) = choose(&mut self.on_the_way, number) {
                    // Only what is confirmed in time counts; who is later is the next case.
                    if self.places.confirm(batch) {
                        self.arrived.extend(messages);
                    }
                }
            }
            Step::Lose(number) => {
                if let Some((batch, _)) = choose(&mut self.on_the_way, number) {
                    self.places.come_back(batch);
                }
            }
            Step::Die(number) => drop(choose(&mut self.on_the_way, number)),
            Step::Pass(ms) => self.now_ms += ms,
        }
    }

    /// Everything calms down: one client polls until nothing comes any more.
    fn drain(&mut self) {
        self.looked.clear();
        self.on_the_way.clear();
        self.now_ms += OVERDUE_MS;
        for _ in 0..200 {
            self.perform(Step::Look(9));
            self.perform(Step::Hand(0));
            self.perform(Step::Arrive(0));
        }
    }

    fn all(&self) -> Vec<(u64, u64)> {
        let each = |(job, log): (&u64, &Vec<u64>)| {
            let job = *job;
            log.iter().map(move |id| (job, *id)).collect::<Vec<_>>()
        };
        self.logs.iter().flat_map(each).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_message_arrives_exactly_once(steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World::default();
        for step in steps {
            world.perform(step);
            let text = serde_json::to_string(&world.places).expect("JSON");
            prop_assert_eq!(&serde_json::from_str::<Places>(&text).expect("the same"), &world.places);
        }
        world.drain();
        let mut arrived = world.arrived.clone();
        arrived.sort_unstable();
        prop_assert_eq!(arrived, world.all());
        prop_assert!(world.places.back.is_empty() && world.places.on_the_way.is_empty());
    }

    #[test]
    fn one_client_that_polls_again_and_again_gets_them_in_order(
        steps in prop::collection::vec((0..3_u64, any::<bool>(), any::<bool>()), 0..100)
    ) {
        let mut world = World::default();
        for (job, polls, arrives) in steps {
            world.perform(Step::Publish(job));
            if polls {
                world.perform(Step::Look(1));
                world.perform(Step::Hand(0));
                world.perform(if arrives { Step::Arrive(0) } else { Step::Lose(0) });
            }
        }
        world.drain();
        for job in JOBS {
            let of = |all: &[(u64, u64)]| -> Vec<u64> {
                all.iter().filter(|(one, _)| *one == job).map(|(_, id)| *id).collect()
            };
            prop_assert_eq!(of(&world.arrived), of(&world.all()));
        }
    }
}

#[test]
fn who_polls_beside_an_answer_on_its_way_gets_what_follows() {
    let mut world = World::default();
    world.perform(Step::Publish(0));
    world.perform(Step::Look(5));
    world.perform(Step::Hand(0));
    // The same request in the same moment: not its retry.
    let (found, messages) = world.look(5).expect("a plan");
    assert!(found.stretches.is_empty() && messages.is_empty());
    world.perform(Step::Publish(0));
    assert_eq!(world.look(6).expect("a plan").1, [(0, 2)]);
    // Later the same request gets it again; another one not before it is overdue.
    world.now_ms = SAME_AGAIN_MS;
    assert_eq!(world.look(5).expect("a plan").1, [(0, 1), (0, 2)]);
    assert_eq!(world.look(6).expect("a plan").1, [(0, 2)]);
    assert_eq!(world.look(0).expect("a plan").1, [(0, 2)]);
    world.now_ms = OVERDUE_MS;
    assert_eq!(world.look(6).expect("a plan").1, [(0, 1), (0, 2)]);
}

#[test]
fn not_more_than_so_many_are_on_their_way() {
    let mut world = World::default();
    for _ in 0..ON_THE_WAY_MAX {
        world.perform(Step::Publish(0));
        world.perform(Step::Look(0));
        world.perform(Step::Hand(0));
    }
    assert_eq!(world.places.plan(&JOBS, 0, 0), None);
    assert!(world.places.plan(&JOBS, 0, OVERDUE_MS).is_some());
    let text = serde_json::to_string(&world.places).expect("JSON");
    assert!(text.len() < 16 * 1024, "{}", text.len());
    world.drain();
    assert_eq!(world.arrived.len(), ON_THE_WAY_MAX);
}

#[test]
fn jobs_that_are_gone_are_forgotten_and_finished_ones_not_read() {
    let mut places = Places::at([(1, 5), (2, 6)]);
    let found = Found {
        heads: vec![(1, 7)],
        done: vec![1],
        ..Found::default()
    };
    assert_eq!(places.take(&found, 0), Some(1));
    assert_eq!(places.take(&found, 0), None, "decided by an older state");
    let on = places.plan(&[1, 2, 3], 0, 0).expect("a plan").on;
    let jobs: Vec<u64> = on.iter().map(|(job, _)| *job).collect();
    assert_eq!(jobs, [2, 3]);
    places.keep(&[2]);
    assert!(!places.knows(1) && places.knows(2));
}

/// A cardholder's reader with all his jobs, whose client takes no answer.
#[test]
fn it_fits_into_a_record_whatever_comes() {
    const JOBS_MAX: u64 = 100;
    let jobs: Vec<u64> = (0..JOBS_MAX).map(|job| 2_000_000_000 + job).collect();
    let place = |at: u64| i64::MAX as u64 - 1_000_000 + at;
    let mut places = Places::at(jobs.iter().map(|job| (*job, place(0))));
    let (mut now_ms, mut told) = (0, 0);
    for turn in 0..200 {
        let Some(plan) = places.plan(&jobs, 1 + turn, now_ms) else {
            // Nothing until something of it is settled or overdue.
            now_ms += if turn % 2 == 0 { 100 } else { OVERDUE_MS };
            told += 1;
            continue;
        };
        let fresh = plan.on.iter().map(|(job, after)| Stretch {
            job: *job,
            after: after.as_integer(),
            up_to: after.as_integer() + 2,
        });
        let fresh: Vec<Stretch> = fresh.collect();
        let found = Found {
            turn: plan.turn,
            overdue: plan.overdue,
            back: plan.back,
            heads: fresh.iter().map(|one| (one.job, one.up_to)).collect(),
            stretches: plan.again.into_iter().chain(fresh).collect(),
            ..Found::default()
        };
        let batch = places.take(&found, now_ms).expect("nobody else polls");
        if turn % 3 == 0 {
            assert!(places.come_back(batch));
        }
        let bytes = crate::job::to_json(&places).len();
        assert!(bytes < 60 * 1024, "{turn}: {bytes}");
    }
    assert!(told > 0);
    // Once its client takes them, it goes on.
    now_ms += OVERDUE_MS;
    for _ in 0..100 {
        let Some(plan) = places.plan(&jobs, 0, now_ms) else {
            panic!("it is stuck")
        };
        let is_done = plan.again.is_empty() && plan.on.len() == jobs.len();
        let found = Found {
            turn: plan.turn,
            overdue: plan.overdue,
            back: plan.back,
            stretches: plan.again,
            ..Found::default()
        };
        let batch = places.take(&found, now_ms).expect("nobody else polls");
        places.confirm(batch);
        if is_done {
            return;
        }
    }
    panic!("it does not come to an end");
}
