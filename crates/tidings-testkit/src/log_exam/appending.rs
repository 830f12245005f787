//! Appending: all or nothing, stored when answered, ids that rise, chains without a break, and
//! every byte as it was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tidings_core::limits::{DATA_BYTES_MAX, DRAFTS_PER_APPEND_MAX};
use tidings_core::{
    Attributes, Draft, Event, EventId, From, LogError, Outcome, PageLimit, Partition, Placed, Prev,
};

use super::Subject;
use super::room::{Chains, Follower, Room, counted, draft, ids, placed, publish, read_to_end};

pub(super) async fn append_answers_when_stored(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let other = room.another().await?;
    let topic = placed(1, "exam/stored");
    for n in 0..50 {
        let id = room.publish(&topic, &n.to_string()).await?;
        // On another handle, at once and without asking twice.
        let page = other
            .read(&topic, From::Oldest, PageLimit::default())
            .await?;
        assert_eq!(page.events.last().map(|e| e.id), Some(id));
        assert_eq!(page.events.len(), n + 1);
    }
    Ok(())
}

pub(super) async fn append_is_all_or_nothing(subject: &dyn Subject) -> Result<()> {
    const TOPICS: usize = 4;
    const PER_TOPIC: usize = 8;
    const APPENDS: usize = 40;
    let room = Room::new(subject).await?;
    let topics: Vec<Placed> = (0..TOPICS)
        .map(|n| placed(2, &format!("exam/all/{n}")))
        .collect();
    let done = Arc::new(AtomicBool::new(false));

    let writer = {
        let (log, topics, done) = (room.another().await?, topics.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            for n in 0..APPENDS {
                let drafts: Vec<Draft> = (0..TOPICS * PER_TOPIC)
                    .map(|k| draft(&topics[k % TOPICS], &n.to_string()))
                    .collect();
                ids(&log.append(Partition(2), drafts).await?, Outcome::New);
                tokio::task::yield_now().await;
            }
            done.store(true, Ordering::Release);
            anyhow::Ok(())
        })
    };
    let mut tail = Follower::from_origin(&*room.log);
    loop {
        let last_look = done.load(Ordering::Acquire);
        let page = room.read(&topics[1], From::Oldest).await?;
        assert_eq!(
            page.events.len() % PER_TOPIC,
            0,
            "a read saw half an append"
        );
        let filled = room.log.fill(Partition(2), everything()).await?;
        let whole = filled.events.len() % (TOPICS * PER_TOPIC);
        assert_eq!(whole, 0, "a fill saw half an append");
        if last_look {
            break;
        }
        tokio::task::yield_now().await;
    }
    writer.await??;
    // The tail may take an append in two steps, but sees it in the order of its drafts.
    let events = tail.count(APPENDS * TOPICS * PER_TOPIC).await?;
    let mut chains = Chains::default();
    for (k, event) in events.iter().enumerate() {
        assert_eq!(event.topic, topics[k % TOPICS].topic);
        assert_eq!(event.data, (k / (TOPICS * PER_TOPIC)).to_string());
        chains.take(event);
    }
    Ok(())
}

fn everything() -> PageLimit {
    PageLimit {
        events: usize::MAX,
        bytes: usize::MAX,
    }
}

pub(super) async fn ids_rise_and_sort_as_text(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let other = room.another().await?;
    let topic = placed(0, "exam/rise");
    let mut all = Vec::new();
    for n in 0..60 {
        let log = if n % 2 == 0 { &room.log } else { &other };
        let appended = log
            .append(topic.partition, counted(&topic, 0..n % 7 + 1))
            .await?;
        all.extend(ids(&appended, Outcome::New));
    }
    assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
    let text: Vec<String> = all.iter().map(EventId::to_string).collect();
    assert!(text.is_sorted_by(|a, b| a < b), "{text:?}");
    assert!(text.iter().all(|t| t.len() == text[0].len()), "{text:?}");
    Ok(())
}

pub(super) async fn ids_carry_the_time_of_the_log(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    for partition in 0..4 {
        let before = room.log.time_ms().await?;
        let id = room.publish(&placed(partition, "exam/time"), "1").await?;
        let after = room.log.time_ms().await?;
        assert!(
            (before..=after).contains(&id.ms()),
            "{id} was stored between {before} and {after}"
        );
        room.tick().await?;
    }
    Ok(())
}

pub(super) async fn sequences_start_anywhere(subject: &dyn Subject) -> Result<()> {
    const SAMPLES: usize = 16;
    let (one, two) = (Room::new(subject).await?, Room::new(subject).await?);
    let mut starts = [Vec::new(), Vec::new()];
    for (room, starts) in [&one, &two].into_iter().zip(&mut starts) {
        let topic = placed(0, "exam/start");
        for _ in 0..SAMPLES {
            starts.push(i32::from(room.publish(&topic, "1").await?.seq()));
            room.tick().await?;
        }
        let mut distinct = starts.clone();
        distinct.sort_unstable();
        distinct.dedup();
        // 16 draws from 1,024 or more repeat one another four times once in 10^7 runs.
        assert!(distinct.len() >= SAMPLES - 4, "starts repeat: {starts:?}");
        let steps: Vec<i32> = starts.windows(2).map(|w| w[1] - w[0]).collect();
        let same = steps.windows(2).filter(|w| w[0] == w[1]).count();
        assert!(same < SAMPLES / 4, "starts can be guessed: {starts:?}");
    }
    let [first, second] = starts;
    let agree = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    assert!(agree < SAMPLES / 4, "two logs start alike: {first:?}");
    Ok(())
}

pub(super) async fn a_burst_keeps_the_sequence_in_bounds(subject: &dyn Subject) -> Result<()> {
    const APPENDS: usize = 80;
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/burst");
    let mut all = Vec::new();
    for _ in 0..APPENDS {
        let drafts = counted(&topic, 0..DRAFTS_PER_APPEND_MAX);
        let appended = room.log.append(topic.partition, drafts).await?;
        all.extend(ids(&appended, Outcome::New));
    }
    // An `EventId` cannot hold a sequence out of bounds: a log that counts on fails here or before.
    assert!(all.is_sorted_by(|a, b| a < b));
    let page = PageLimit::default();
    let read = read_to_end(&*room.log, &topic, From::Oldest, page).await?;
    assert!(read.iter().map(|e| e.id).eq(all));
    Ok(())
}

pub(super) async fn prev_chains_have_no_break(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let other = room.another().await?;
    let topics: Vec<Placed> = (0..5)
        .map(|n| placed(3, &format!("exam/chain/{n}")))
        .collect();
    let empty = room.read(&topics[0], From::Newest).await?.next;
    // Steps of 1, 2, 3, … through five topics: runs, gaps and repetitions in one append too.
    let mut k = 0;
    for n in 0..60 {
        let drafts = (0..n % 4 + 1).map(|m| {
            k += n + m;
            draft(&topics[k % topics.len()], &n.to_string())
        });
        let log = if n % 3 == 0 { &other } else { &room.log };
        log.append(Partition(3), drafts.collect()).await?;
    }
    let mut chains = Chains::default();
    for topic in &topics {
        let events = read_to_end(
            &*other,
            topic,
            From::Oldest,
            PageLimit {
                events: 7,
                bytes: 1 << 20,
            },
        );
        let events = events.await?;
        assert!(
            events[0].prev.reaches(empty),
            "{:?} does not reach {empty}, where the topic was empty",
            events[0].prev
        );
        events.iter().for_each(|event| chains.take(event));
    }
    assert_eq!(chains.topics(), topics.len());
    assert_eq!(chains.seen, (0..60).map(|n| n % 4 + 1).sum::<usize>());
    Ok(())
}

pub(super) async fn what_was_sent_comes_back(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(1, "exam/content:~@=+$._-/A");
    let drafts = content(&topic);
    let mut ids = Vec::new();
    for draft in &drafts {
        // One by one: together they are larger than one request need be.
        let appended = room.log.append(topic.partition, vec![draft.clone()]);
        ids.push(appended.await?[0].id);
    }
    let mut prev = None;
    let expected: Vec<Event> = drafts
        .iter()
        .zip(ids)
        .map(|(draft, id)| Event {
            id,
            prev: prev.replace(id).map_or(Prev::Unknown, Prev::Event),
            topic: draft.topic.clone(),
            kind: draft.kind.clone(),
            data: draft.data.clone(),
            attributes: draft.attributes.clone(),
        })
        .collect();

    let page = PageLimit::default();
    let read = read_to_end(&*room.another().await?, &topic, From::Oldest, page).await?;
    let filled = room.log.fill(topic.partition, everything()).await?.events;
    let mut tail = Follower::from_origin(&*room.another().await?);
    let tailed = tail.count(drafts.len()).await?;
    for mut events in [read, filled, tailed] {
        assert!(matches!(events[0].prev, Prev::NoneSince(_)));
        events[0].prev = Prev::Unknown;
        for (event, expected) in events.iter().zip(&expected) {
            // Not `assert_eq`: a mebibyte is not read by anyone.
            assert!(event.data == expected.data, "data of {}", event.id);
            let (event, expected) = (without_data(event), without_data(expected));
            assert_eq!(event, expected);
        }
        assert_eq!(events.len(), expected.len());
    }
    Ok(())
}

fn without_data(event: &Event) -> Event {
    Event {
        data: Bytes::new(),
        ..event.clone()
    }
}

/// Drafts of every shape that a publisher can send.
fn content(topic: &Placed) -> Vec<Draft> {
    let long = format!("\"{}\"", "x".repeat(DATA_BYTES_MAX - 2));
    let data = [
        r#""""#,
        "null",
        "0",
        "[]",
        "{}",
        // Order, spaces, repeated keys and number forms are the publisher's.
        "{ \"b\" : 1.0,\r\n\t\"a\":1e3 , \"b\":-0 }\n",
        r#""\u0000\"\\\n\ud83d\ude00""#,
        "\"Grüße, 你好, 😀, \u{202e}, \u{2028}\"",
        &long,
    ];
    let mut drafts: Vec<Draft> = data.iter().map(|data| draft(topic, data)).collect();
    drafts[1].kind = "kind with spaces, ümläute and \"quotes\"".into();
    let text = |name: &str| Some(Arc::from(format!("{name} — ñ \"'\\ %20 {{}}")));
    let every = Attributes {
        publisher_id: text("id"),
        source: text("/source"),
        subject: text("subject"),
        time: text("1985-04-12T23:20:50.52+01:00"),
        content_type: text("application/json; charset=utf-8"),
        schema: text("urn:schema"),
        trace_parent: text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        trace_state: text("congo=t61rcWkgMzE"),
    };
    let each = [
        Attributes {
            publisher_id: text("only"),
            ..Attributes::default()
        },
        Attributes {
            trace_state: text("only"),
            subject: text("and"),
            ..Attributes::default()
        },
        every,
    ];
    drafts.extend(each.map(|attributes| Draft {
        attributes: Some(Box::new(attributes)),
        ..draft(topic, "{}")
    }));
    drafts
}

pub(super) async fn too_many_drafts_are_refused(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/many");
    let one_more = counted(&topic, 0..DRAFTS_PER_APPEND_MAX + 1);
    let refused = room.log.append(topic.partition, one_more).await;
    assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
    assert_eq!(room.read(&topic, From::Oldest).await?.events, []);

    let most = counted(&topic, 0..DRAFTS_PER_APPEND_MAX);
    let appended = room.log.append(topic.partition, most).await?;
    assert_eq!(ids(&appended, Outcome::New).len(), DRAFTS_PER_APPEND_MAX);
    assert_eq!(room.log.append(topic.partition, Vec::new()).await?, []);
    Ok(())
}

pub(super) async fn a_partition_that_does_not_exist_is_refused(
    subject: &dyn Subject,
) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(4, "exam/nowhere");
    let refused = publish(&*room.log, &topic, "1").await;
    assert!(refused.is_err(), "{refused:?}");
    // And the log lives on.
    tokio::time::timeout(
        Duration::from_secs(10),
        room.publish(&placed(0, "exam/here"), "1"),
    )
    .await??;
    Ok(())
}
