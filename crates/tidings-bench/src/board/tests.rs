//! Counting, and the waits that follow from it.

use super::*;

#[test]
fn a_delivery_is_counted_once_and_the_lane_moves_when_all_have_it() {
    let board = Board::new(1, 2, 2);
    let seats = [board.seat(0, None, None), board.seat(0, None, Some(2))];
    let first = board.publish(1, 10);
    let second = board.publish(1, 20);
    assert_eq!((first.number, second.number), (0, 1));
    board.receive(&seats[0], first, 15);
    board.receive(&seats[0], first, 16);
    assert_eq!(board.lanes[1].complete.get(), 0);
    board.receive(&seats[1], first, 17);
    assert_eq!(board.lanes[1].complete.get(), 1);
    board.receive(&seats[1], second, 30);
    assert_eq!(seats[1].done.get(), Some(30));
    assert_eq!(board.counts().delivered, 3);
    assert_eq!(board.latency.borrow().len(), 3);
    let tally = board.close(&seats);
    assert_eq!((tally.lost, tally.duplicated), (1, 1));
}

#[test]
fn another_runs_events_are_strays() {
    let board = Board::new(1, 1, 1);
    let seat = board.seat(0, None, None);
    let stamp = board.publish(0, 0);
    let run = stamp.run ^ 1;
    board.receive(&seat, Stamp { run, ..stamp }, 1);
    let number = 1;
    board.receive(&seat, Stamp { number, ..stamp }, 1);
    assert_eq!(board.close([&seat]).strayed, 2);
    assert_eq!(board.counts().delivered, 0);
}

#[test]
fn readers_that_disagree_are_counted() {
    let board = Board::new(1, 2, 2);
    let seats = [board.seat(0, None, None), board.seat(0, None, None)];
    let (one, other) = (board.publish(0, 0), board.publish(1, 0));
    for (seat, order) in seats.iter().zip([[one, other], [other, one]]) {
        for stamp in order {
            board.receive(seat, stamp, 1);
        }
    }
    let disagreeing = 1;
    let expected = Tally {
        disagreeing,
        ..Tally::default()
    };
    assert_eq!(board.close(&seats), expected);
}

#[tokio::test]
async fn a_full_lane_waits_until_its_event_has_arrived_or_the_run_stops() {
    let board = Board::new(1, 1, 1);
    let seat = board.seat(0, None, None);
    let stamp = board.publish(0, 0);
    tokio::join!(board.room(0, 1), async {
        board.receive(&seat, stamp, 1);
    });
    board.publish(0, 0);
    tokio::join!(board.room(0, 1), async { board.stop() });
}
