//! The sweep by a timer, which a platform's schedule is elsewhere.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// How often it is swept: what has expired is gone at once for its owner, and at most so much later in PVE.
pub(crate) const PERIOD: Duration = Duration::from_secs(60);

/// Sweeps at once and then each time that `period` has passed; a sweep that takes longer delays the next one.
pub(crate) async fn every(period: Duration, sweep: impl AsyncFn() -> String) {
    let mut timer = interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let result = sweep().await;
        tracing::info!(result, "sweep");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_swept_again_and_again() {
        let count = Cell::new(0);
        let sweep = async || {
            count.set(count.get() + 1);
            String::new()
        };
        let _ = timeout(PERIOD * 3 + Duration::from_secs(1), every(PERIOD, sweep)).await;
        assert_eq!(count.get(), 4);
    }
}
