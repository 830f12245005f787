//! What a publish asks for beyond being stored, and what it is told.

use serde_json::Value;
use tidings_core::{Durability, Settled};

use crate::common::{Answer, Server, start};
use crate::moody::Mood;

const REPLICATED: Settled = Settled {
    replicated: true,
    fsynced: false,
};
const FSYNCED: Settled = Settled {
    replicated: false,
    fsynced: true,
};
const ONE: &str = r#"{"topic":"demo/a","type":"t","data":1}"#;

async fn publish(server: &Server, query: &str, kind: &str, body: &str) -> Answer {
    let path = format!("/v1/events{query}");
    server
        .send("POST", &path, &[("content-type", kind)], body)
        .await
}

async fn json(server: &Server, query: &str, body: &str) -> Value {
    let answer = publish(server, query, "application/json", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

fn will_say(server: &Server, answers: &[Settled]) {
    let mut settles = server.log.settles.lock().expect("no panic");
    *settles = answers.iter().copied().collect();
}

fn wanted(server: &Server) -> Vec<(Durability, usize)> {
    std::mem::take(&mut *server.log.wanted.lock().expect("no panic"))
}

#[tokio::test]
async fn every_answer_says_what_was_reached() {
    let server = start("").await;
    let plain = json(&server, "", ONE).await;
    assert_eq!(plain["durability"], "stored");
    assert_eq!(plain.get("wanted"), None);
    assert_eq!(plain.get("warning"), None);
    assert_eq!(
        json(&server, "?durability=stored", ONE).await["durability"],
        "stored"
    );
    assert_eq!(wanted(&server), [], "the log is not asked");

    // Memory has neither replicas nor a disk, and says so.
    let missed = json(&server, "?durability=replicated", ONE).await;
    assert_eq!(missed["durability"], "stored");
    assert_eq!(missed["wanted"], "replicated");
    assert!(
        missed["warning"]
            .as_str()
            .is_some_and(|why| why.contains("within 2s")),
        "{missed}"
    );
    assert_eq!(missed["events"].as_array().map(Vec::len), Some(1));

    let table = [
        ("replicated", REPLICATED, "replicated"),
        ("replicated", FSYNCED, "stored"),
        ("fsynced", FSYNCED, "fsynced"),
        ("fsynced", REPLICATED, "replicated"),
        ("fsynced", Settled::STORED, "stored"),
    ];
    let batch = format!("[{ONE},{ONE}]");
    for (asked, settled, reached) in table {
        wanted(&server);
        will_say(&server, &[settled]);
        let answer = json(&server, &format!("?durability={asked}"), &batch).await;
        assert_eq!(answer["durability"], reached, "{answer}");
        assert_eq!(answer.get("wanted").is_some(), asked != reached, "{answer}");
        let want = Durability::of(asked).expect("known");
        assert_eq!(wanted(&server), [(want, 2)], "both together");
    }
    let metrics = server.get("/metrics").await.text();
    for (wanted, reached, count) in [
        ("replicated", "stored", 2),
        ("replicated", "replicated", 1),
        ("fsynced", "fsynced", 1),
        ("fsynced", "replicated", 1),
        ("fsynced", "stored", 1),
    ] {
        let row =
            format!("tidings_settles_total{{reached=\"{reached}\",wanted=\"{wanted}\"}} {count}");
        assert!(metrics.contains(&row), "{row}: {metrics}");
    }
}

#[tokio::test]
async fn the_default_is_configured_and_the_query_wins() {
    let server = start("[api]\ndurability = \"fsynced\"\ndurability_timeout = \"1s\"\n").await;
    will_say(&server, &[FSYNCED]);
    assert_eq!(json(&server, "", ONE).await["durability"], "fsynced");
    assert_eq!(json(&server, "", ONE).await["wanted"], "fsynced");
    assert_eq!(
        json(&server, "?durability=stored", ONE).await.get("wanted"),
        None
    );
}

#[tokio::test]
async fn a_level_that_is_not_known_stores_nothing() {
    let server = start("").await;
    for query in [
        "?durability=Replicated",
        "?durability=",
        "?durability=replicated&durability=stored",
    ] {
        for kind in ["application/json", "application/x-ndjson"] {
            let answer = publish(&server, query, kind, ONE).await;
            assert_eq!(answer.status, 400, "{query}");
            assert_eq!(answer.problem(), "invalid-parameter");
            assert_eq!(answer.json()["field"], "durability");
            assert_eq!(answer.json()["allowed"][1], "replicated");
        }
    }
    assert_eq!(server.data("demo/a").await, "[]");
}

#[tokio::test]
async fn lines_wait_group_by_group_until_one_has_missed_it() {
    let server = start("").await;
    // Three groups: 500 events are one append.
    let lines: String = (0..1_200).map(|_| format!("{ONE}\n")).collect();
    let upload = async |answers: &[Settled], asked: &str| {
        wanted(&server);
        will_say(&server, answers);
        let query = format!("?durability={asked}");
        let answer = publish(&server, &query, "application/x-ndjson", &lines).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let document = answer.json();
        assert_eq!(document["count"], 1_200);
        (document["durability"].clone(), wanted(&server))
    };
    // Pieces of the body may end groups earlier, so there may be more than three.
    let (reached, asked) = upload(&[REPLICATED; 100], "replicated").await;
    assert_eq!(reached, "replicated");
    assert_eq!(asked.iter().map(|(_, events)| events).sum::<usize>(), 1_200);
    assert!(asked.len() >= 3, "{asked:?}");
    let (reached, asked) = upload(&[REPLICATED, Settled::STORED], "replicated").await;
    assert_eq!((reached, asked.len()), ("stored".into(), 2));
    let (reached, asked) = upload(&[REPLICATED; 100], "fsynced").await;
    assert_eq!(reached, "replicated");
    assert_eq!(asked[0].0, Durability::Fsynced);
    assert!(
        asked[1..]
            .iter()
            .all(|(want, _)| *want == Durability::Replicated)
    );
}

#[tokio::test]
async fn what_failed_is_a_problem_and_waits_for_nothing() {
    let server = start("").await;
    server.log.set(Mood::Unavailable);
    let answer = publish(&server, "?durability=fsynced", "application/json", ONE).await;
    assert_eq!(answer.problem(), "log-unavailable");
    assert_eq!(answer.json().get("durability"), None);
    assert_eq!(wanted(&server), []);
}
