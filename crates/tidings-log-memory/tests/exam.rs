//! The memory log sits the exam that every log passes: with a clock in the hand of the test, which
//! jumps where others wait, and once more with the machine's.

use tidings_testkit::log_exam::{CASES, Case, Mark, run};

use sitting::Memory;

mod sitting;

tidings_testkit::log_exam!(Memory { manual: true });

/// Time really passes here, for all cases at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machines_clock_will_do() {
    let sit = |case: &'static Case| {
        tokio::spawn(async move { (case.name, case.sit(&Memory { manual: false }).await) })
    };
    // The crowd would take the time that the others measure.
    let crowd = "eight_readers_against_eight_writers";
    let others = CASES.iter().filter(|case| case.name != crowd);
    let sittings: Vec<_> = others.map(sit).collect();
    for sitting in sittings {
        let (name, mark) = sitting.await.expect("cases catch their panics");
        assert!(!matches!(mark, Mark::Failed(_)), "{name}: {mark:?}");
    }
}

#[tokio::test]
async fn the_list_can_be_printed() {
    let memory = Memory { manual: true };
    run(&memory, "restart")
        .await
        .expect("skipped is not failed");
    run(&memory, "key").await.expect("they pass");
}
