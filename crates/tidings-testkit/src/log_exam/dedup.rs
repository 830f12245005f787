//! Publishers' keys: the first id is answered, each key in its scope and for its lifetime.

use anyhow::Result;
use tidings_core::{Dedup, Draft, EventId, From, Outcome, Placed};

use super::Subject;
use super::room::{Room, draft, ids, placed};

fn keyed(topic: &Placed, scope: &str, key: &str, lifetime_ms: u64, data: &str) -> Draft {
    Draft {
        dedup: Some(Dedup {
            scope: scope.into(),
            key: key.into(),
            lifetime_ms,
        }),
        ..draft(topic, data)
    }
}

pub(super) async fn a_known_key_answers_the_first_id(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let other = room.another().await?;
    let topic = placed(0, "exam/key");
    let with = |data| keyed(&topic, "s", "k", Dedup::LIFETIME_MS, data);

    let first = room.log.append(topic.partition, vec![with("1")]).await?;
    let first = ids(&first, Outcome::New)[0];
    room.publish(&topic, "2").await?;
    let again = other.append(topic.partition, vec![with("3")]).await?;
    assert_eq!(ids(&again, Outcome::Duplicate), [first]);

    // What is new beside it is stored, and answers stand in the order of the drafts.
    let mixed = vec![draft(&topic, "4"), with("5"), draft(&topic, "6")];
    let mixed = other.append(topic.partition, mixed).await?;
    let outcomes: Vec<Outcome> = mixed.iter().map(|a| a.outcome).collect();
    assert_eq!(outcomes, [Outcome::New, Outcome::Duplicate, Outcome::New]);
    assert_eq!(mixed[1].id, first);

    let page = room.read(&topic, From::Oldest).await?;
    let data: Vec<&[u8]> = page.events.iter().map(|e| &e.data[..]).collect();
    assert_eq!(data, [b"1", b"2", b"4", b"6"]);
    let read: Vec<EventId> = page.events.iter().map(|e| e.id).collect();
    assert_eq!(
        (read[0], read[2], read[3]),
        (first, mixed[0].id, mixed[2].id)
    );
    Ok(())
}

pub(super) async fn a_key_within_one_append_counts(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/key");
    let with = |key, data| keyed(&topic, "s", key, Dedup::LIFETIME_MS, data);
    let drafts = vec![with("a", "1"), with("b", "2"), with("a", "3")];
    let appended = room.log.append(topic.partition, drafts).await?;
    assert_eq!(appended[2].id, appended[0].id);
    assert_eq!(appended[2].outcome, Outcome::Duplicate);
    assert_eq!(ids(&appended[..2], Outcome::New).len(), 2);
    assert_eq!(room.read(&topic, From::Oldest).await?.events.len(), 2);
    Ok(())
}

pub(super) async fn scopes_keep_keys_apart(subject: &dyn Subject) -> Result<()> {
    let room = Room::new(subject).await?;
    let (one, two) = (placed(0, "exam/one"), placed(0, "exam/two"));
    let hour = Dedup::LIFETIME_MS;
    // Neither a scope and a key that run together alike, nor strange ones, are mistaken.
    let apart = vec![
        keyed(&one, "s", "k", hour, "1"),
        keyed(&one, "t", "k", hour, "2"),
        keyed(&one, "s", "l", hour, "3"),
        keyed(&one, "sk", "", hour, "4"),
        keyed(&one, "", "sk", hour, "5"),
        keyed(&one, "s:k", "k", hour, "6"),
        keyed(&one, "s", "k:k", hour, "7"),
        keyed(&one, "{s}\n", "{k} ü *", hour, "8"),
        draft(&one, "9"),
        draft(&one, "9"),
    ];
    let count = apart.len();
    let appended = room.log.append(one.partition, apart).await?;
    assert_eq!(ids(&appended, Outcome::New).len(), count);

    // A scope may span topics: then the key does too.
    let across = vec![keyed(&two, "s", "k", hour, "1")];
    let across = room.log.append(two.partition, across).await?;
    assert_eq!(ids(&across, Outcome::Duplicate), [appended[0].id]);
    assert_eq!(room.read(&two, From::Oldest).await?.events, []);
    Ok(())
}

pub(super) async fn a_key_lives_for_its_own_lifetime(subject: &dyn Subject) -> Result<()> {
    let room = Room::short(subject).await?;
    let topic = placed(0, "exam/life");
    let long_ms = 3 * room.retention_ms();
    let short = |data| keyed(&topic, "s", "short", 1000, data);
    let long = |data| keyed(&topic, "s", "long", long_ms, data);

    let first = vec![short("1"), long("2")];
    let first = room.log.append(topic.partition, first).await?;
    let first = ids(&first, Outcome::New);
    room.wait_for_ms(first[0].ms() + 1500).await?;
    let again = room.log.append(topic.partition, vec![short("3")]).await?;
    let again = ids(&again, Outcome::New)[0];
    assert!(again > first[0]);

    // The key outlives its event: stored once means once.
    room.wait_for_expiry(again).await?;
    assert_eq!(room.read(&topic, From::Oldest).await?.events, []);
    let late = room.log.append(topic.partition, vec![long("4")]).await?;
    assert_eq!(ids(&late, Outcome::Duplicate), [first[1]]);
    room.wait_for_ms(first[1].ms() + long_ms + 500).await?;
    let new = room.log.append(topic.partition, vec![long("5")]).await?;
    assert!(ids(&new, Outcome::New)[0] > first[1]);
    Ok(())
}

pub(super) async fn of_many_at_once_one_is_new(subject: &dyn Subject) -> Result<()> {
    const AT_ONCE: usize = 8;
    const ROUNDS: usize = 20;
    let room = Room::new(subject).await?;
    let topic = placed(0, "exam/race");
    let mut tasks = Vec::new();
    for task in 0..AT_ONCE {
        let (log, topic) = (room.another().await?, topic.clone());
        tasks.push(tokio::spawn(async move {
            let mut answers = Vec::new();
            for round in 0..ROUNDS {
                let data = task.to_string();
                let key = round.to_string();
                let draft = keyed(&topic, "s", &key, Dedup::LIFETIME_MS, &data);
                answers.push(log.append(topic.partition, vec![draft]).await?[0]);
            }
            anyhow::Ok(answers)
        }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await??);
    }
    for round in 0..ROUNDS {
        let of_round: Vec<_> = answers.iter().map(|a| a[round]).collect();
        let new = of_round.iter().filter(|a| a.outcome == Outcome::New);
        assert_eq!(new.count(), 1, "{of_round:?}");
        assert!(of_round.iter().all(|a| a.id == of_round[0].id));
    }
    let events = room.read(&topic, From::Oldest).await?.events;
    assert_eq!(events.len(), ROUNDS);
    Ok(())
}
