//! Indexes and views through the hub: a queue of chats over all partitions, its value on two
//! instances, and each chat's place in it.

#[path = "views/desk.rs"]
mod desk;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use desk::{Desk, SOON, asked, log, printed, until};
use tidings_core::{CommandError, LogError, ViewRefusal};
use tidings_engine::limits::VIEWS_MAX;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_in_order_over_all_partitions() {
    let log = log();
    let desk = Desk::open(&log).await;
    let hub = &desk.hub;
    let mut expected = Vec::new();
    for n in 0..100_u64 {
        let (chat, rank) = (format!("chat-{n}"), n * 37 % 50);
        asked(hub, &chat, &format!("wait {rank}")).await;
        expected.push((rank, chat));
    }
    expected.sort_unstable();
    let partitions = (expected.iter()).map(|(_, chat)| desk::partition(hub, chat));
    assert!(partitions.collect::<BTreeSet<_>>().len() > 8, "spread");
    for limit in [1, 7, 99, 100, 101, 20_000] {
        let listed = hub.list("desk.chat", "waiting", limit).await;
        let listed = listed.expect("in memory");
        assert_eq!(listed.complete, limit >= 100, "{limit}");
        let seen = listed.entries.iter();
        let seen: Vec<_> = seen.map(|one| (one.rank, one.key.id.to_string())).collect();
        assert_eq!(seen, expected[..limit.min(100)]);
    }
    asked(hub, "chat-0", "go").await;
    asked(hub, "chat-1", "end").await;
    let listed = hub.list("desk.chat", "waiting", 200).await;
    assert_eq!(listed.expect("in memory").entries.len(), 98);
    let none = hub.list("desk.chat", "active", 200).await;
    assert_eq!(none.expect("in memory").entries, []);
    for (kind, index) in [("desk.chat", "other"), ("desk.none", "waiting")] {
        let refused = hub.list(kind, index, 1).await;
        assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
    }
    for mistake in ["stray 1", "wait 9007199254740992"] {
        let undecided = hub.command(desk::command("chat-2", mistake)).await;
        assert!(
            matches!(undecided, Err(CommandError::Undecided(_))),
            "{undecided:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_computation_serves_a_thousand_and_two_instances_agree() {
    let log = log();
    let (here, there) = (Desk::open(&log).await, Desk::open(&log).await);
    let mut holds = Vec::new();
    for _ in 0..1000 {
        holds.push(there.hub.view("desk.queue", "").expect("hosted"));
    }
    let (mut quickest, mut others) = (Duration::MAX, Vec::new());
    for hold in &mut holds {
        assert_eq!(printed(hold.value().await), "");
        hold.changed().await.expect("the present one");
    }
    for n in 0..8 {
        // Quiet before each change, so that each has one computation.
        tokio::time::sleep(Duration::from_millis(120)).await;
        let before = there.computed.load(Ordering::SeqCst);
        let began = Instant::now();
        asked(&here.hub, &format!("chat-{n}"), &format!("wait {n}")).await;
        let first = holds[0].changed().await.expect("a change");
        quickest = quickest.min(began.elapsed());
        for hold in &mut holds[1..] {
            let told = tokio::time::timeout(SOON, hold.changed()).await;
            let told = told.expect("all are told").expect("a change");
            assert!(std::ptr::eq(
                told.printed().as_ptr(),
                first.printed().as_ptr()
            ));
        }
        others.push(there.computed.load(Ordering::SeqCst) - before);
    }
    assert_eq!(printed(holds[0].get()), "0 1 2 3 4 5 6 7");
    assert!(quickest < Duration::from_millis(250), "{quickest:?}");
    // The event comes once; only the recheck may come between.
    assert!(others.iter().sum::<usize>() <= 8 + 1, "{others:?}");
    assert!(
        here.computed.load(Ordering::SeqCst) == 0,
        "nobody looks there"
    );
    let count = |name| desk::metric(&there.registry, name, "desk.queue");
    assert_eq!(
        count("tidings_view_computations_total"),
        there.computed.load(Ordering::SeqCst) as f64
    );
    assert_eq!(count("tidings_view_changes_total"), 9.0);
    assert_eq!(count("tidings_views"), 1.0);
    // What changes nothing is not told.
    asked(&here.hub, "elsewhere", "say").await;
    let told = tokio::time::timeout(Duration::from_millis(200), holds[0].changed()).await;
    assert!(told.is_err(), "{told:?}");
    drop(holds);
    until("it is forgotten", || async {
        count("tidings_views") == 0.0
    })
    .await;
    let idle = there.computed.load(Ordering::SeqCst);
    asked(&here.hub, "late", "wait 9").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(there.computed.load(Ordering::SeqCst), idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_merged_and_its_last_value_comes() {
    let log = log();
    let desk = Desk::open(&log).await;
    let mut queue = desk.hub.view("desk.queue", "").expect("hosted");
    queue.value().await.expect("computed");
    let before = desk.computed.load(Ordering::SeqCst);
    let began = Instant::now();
    for n in 0..200 {
        asked(&desk.hub, "chat-1", &format!("wait {n}")).await;
        if n % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    asked(&desk.hub, "chat-last", "wait 999").await;
    until("the last is there", || async {
        printed(queue.get()) == "1 last"
    })
    .await;
    let computed = desk.computed.load(Ordering::SeqCst) - before;
    let most = began.elapsed().as_millis() as usize / 50 + 2;
    assert!(
        computed <= most,
        "{computed} in {:?}, {most} at most",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_stands_on_another() {
    let log = log();
    let desk = Desk::open(&log).await;
    let mut places = Vec::new();
    for n in 0..100 {
        asked(&desk.hub, &format!("chat-{n:02}"), &format!("wait {n}")).await;
        places.push(
            desk.hub
                .view("desk.place", &format!("chat-{n:02}"))
                .expect("hosted"),
        );
    }
    for (n, place) in places.iter_mut().enumerate() {
        until("each knows its place", || async {
            printed(place.get()) == (n + 1).to_string()
        })
        .await;
        let value = place.value().await.expect("computed");
        assert_eq!(value.get::<usize>(), Some(&(n + 1)));
    }
    let before = desk.computed.load(Ordering::SeqCst);
    asked(&desk.hub, "chat-00", "go").await;
    for (n, place) in places.iter_mut().enumerate().skip(1) {
        until("all moved up", || async {
            printed(place.get()) == n.to_string()
        })
        .await;
    }
    let listed = desk.computed.load(Ordering::SeqCst) - before;
    assert!(listed <= 3, "the queue was listed {listed} times");
    for (view, refusal) in [
        ("desk.none", ViewRefusal::Unknown),
        ("desk.circle", ViewRefusal::Unknown),
    ] {
        assert_eq!(desk.hub.view(view, "").err(), Some(refusal), "{view}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_tried_again_and_the_last_value_stays() {
    let log = log();
    let desk = Desk::open(&log).await;
    desk.failing.store(true, Ordering::SeqCst);
    let mut queue = desk.hub.view("desk.queue", "").expect("hosted");
    let early = tokio::time::timeout(Duration::from_millis(300), queue.value()).await;
    assert!(early.is_err(), "no value before there is one");
    desk.failing.store(false, Ordering::SeqCst);
    assert_eq!(printed(queue.changed().await), "");
    desk.failing.store(true, Ordering::SeqCst);
    asked(&desk.hub, "chat-1", "wait 1").await;
    let failures = || {
        let failures = "tidings_view_failures_total";
        desk::metric(&desk.registry, failures, "desk.queue")
    };
    let before = failures();
    until("it fails again and again", || async {
        failures() >= before + 2.0
    })
    .await;
    assert_eq!(printed(queue.get()), "");
    desk.failing.store(false, Ordering::SeqCst);
    let recovered = tokio::time::timeout(SOON, queue.changed()).await;
    assert_eq!(printed(recovered.expect("in time")), "1");
    // So is one that panics.
    desk.panicking.store(true, Ordering::SeqCst);
    asked(&desk.hub, "chat-2", "wait 2").await;
    let before = failures();
    until("it panics", || async { failures() > before }).await;
    desk.panicking.store(false, Ordering::SeqCst);
    let recovered = tokio::time::timeout(SOON, queue.changed()).await;
    assert_eq!(printed(recovered.expect("in time")), "1 2");
    // And nobody waits for a hub that has ended.
    let (hub, mut waiting) = (desk.hub.clone(), queue);
    let told = tokio::spawn(async move { waiting.changed().await });
    hub.stop().await;
    assert_eq!(
        tokio::time::timeout(SOON, told)
            .await
            .expect("told")
            .expect("no panic"),
        None
    );
    let mut late = hub.view("desk.place", "chat-1").expect("hosted");
    assert_eq!(late.value().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_suffix_has_it_computed_anew() {
    let log = log();
    let desk = Desk::open(&log).await;
    let partition = desk.hub.placed(desk::queue()).partition;
    let kept = log.copy_records(partition).expect("there is one");
    let mut queue = desk.hub.view("desk.queue", "").expect("hosted");
    assert_eq!(printed(queue.changed().await), "");
    // A chat in the partition of the queue's topic, so that both are lost together.
    let chat = (0..).map(|n| format!("chat-{n}"));
    let chat = chat
        .into_iter()
        .find(|chat| desk::partition(&desk.hub, chat) == partition);
    let chat = chat.expect("some chat stands there");
    asked(&desk.hub, &chat, "wait 1").await;
    assert_eq!(printed(queue.changed().await), chat["chat-".len()..]);
    log.lose_records(partition, kept).expect("there is one");
    log.lose_suffix(partition, tidings_core::EventId::ORIGIN)
        .expect("there is one");
    let told = tokio::time::timeout(Duration::from_secs(5), queue.changed()).await;
    assert_eq!(printed(told.expect("before the recheck")), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_by_itself_is_found() {
    let log = log();
    let desk = Desk::open(&log).await;
    let mut clock = desk.hub.view("desk.clock", "").expect("hosted");
    for n in 1..4_usize {
        let value = clock.changed().await.expect("it goes on");
        assert!(value.get::<usize>() >= Some(&n), "{value:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_are_bounded() {
    let log = log();
    let desk = Desk::open(&log).await;
    let hold = |n: usize| desk.hub.view("desk.echo", &n.to_string());
    let mut held: Vec<_> = (0..VIEWS_MAX).map(|n| hold(n).expect("room")).collect();
    assert_eq!(hold(VIEWS_MAX).err(), Some(ViewRefusal::TooMany));
    // One that lives already may be held by many.
    assert!(hold(7).is_ok());
    // Those that nobody holds give way at once.
    held.truncate(VIEWS_MAX - 2);
    let mut late = hold(VIEWS_MAX).expect("there is room again");
    assert_eq!(printed(late.value().await), VIEWS_MAX.to_string());
    let mut first = held.swap_remove(0);
    assert_eq!(printed(first.value().await), "0");
}
