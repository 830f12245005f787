//! Turns and boards as tables.

use super::*;
use tidings_adapter::bytes::Bytes;

const T: u64 = 1_700_000_000_000;
const EVERY: u64 = 10_000;

fn decide(board: Option<&Board>, ask: &Ask, now_ms: u64) -> Decision {
    let document = board.map(|one| Bytes::from(serde_json::to_vec(one).expect("JSON")));
    let state = [(keys::health(), document)];
    let body = command(ask).body;
    Boards.decide(&State::new(&state), Trigger::Command(&body), now_ms)
}

fn written(decision: &Decision) -> Board {
    Board::parse(decision.puts.first().map(|put| &*put.document))
}

fn seen(up: bool, version: Option<&str>) -> Ask {
    let seen = Seen {
        up,
        version: version.map(str::to_owned),
    };
    Ask::Seen(BTreeMap::from([("TIM".to_owned(), seen)]))
}

#[test]
fn one_instance_has_the_turn() {
    let turn = Ask::Turn { every_ms: EVERY };
    let first = decide(None, &turn, T);
    assert_eq!(first.answer, "0");
    let board = written(&first);
    for (now_ms, answer) in [(T, "10000"), (T + 9_999, "1"), (T + EVERY, "0")] {
        let decision = decide(Some(&board), &turn, now_ms);
        assert_eq!(decision.answer, answer);
        assert_eq!(decision.puts.is_empty(), answer != "0");
    }
    // After a clock that was far ahead, or a shorter period, nobody waits for long.
    assert_eq!(decide(Some(&board), &turn, T - 100_000).answer, "0");
}

#[test]
fn only_a_change_is_told() {
    let board = written(&decide(None, &Ask::Turn { every_ms: EVERY }, T));
    let up = decide(Some(&board), &seen(true, Some("1.0")), T);
    assert_eq!(up.flash[0].topic.as_str(), keys::HEALTH);
    let board = written(&up);
    assert!(decide(Some(&board), &seen(true, Some("1.0")), T).changes_nothing());
    for ask in [seen(true, Some("1.1")), seen(false, None)] {
        assert_eq!(decide(Some(&board), &ask, T).flash.len(), 1, "{ask:?}");
    }
    let turn = decide(Some(&board), &Ask::Turn { every_ms: EVERY }, T + EVERY);
    assert!(turn.flash.is_empty());
    assert_eq!(written(&turn).seen, board.seen);
}

#[test]
fn a_board_is_printed_in_its_order() {
    let board = written(&decide(None, &seen(true, Some("1.0\"")), T));
    assert_eq!(
        board.print(["RESQL", "TIM"]),
        r#"{"data":[{"name":"RESQL","version":null,"status":"down"},{"name":"TIM","version":"1.0\"","status":"up"}]}"#
    );
    assert_eq!(Board::default().print([]), r#"{"data":[]}"#);
    assert_eq!(Board::parse(Some(b"garbage")), Board::default());
}
