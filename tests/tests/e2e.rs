//! The quick part of the end-to-end suite: the local server before the
//! simulator, in this process. `tests/e2e` runs all of it.

use pve_edge_tests::e2e::{Combination, Pve, Target, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_local_server_on_the_simulator() {
    let tally = run(Combination { pve: Pve::Simulator, target: Target::Local }, "").await;
    assert_eq!(tally.failed, 0, "see above");
    assert!(tally.passed > 40, "{tally:?}");
}
