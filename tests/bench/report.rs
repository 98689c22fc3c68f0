//! What was measured, beside its budget.

use std::{process::ExitCode, time::Instant};

use pve_edge_bed::floor::Line;

use crate::bed::Taken;

/// Prints, and counts what is over.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) within: u32,
    pub(crate) over: u32,
}

impl Report {
    /// Tells how many were within and over their budgets.
    pub(crate) fn end(&self) -> ExitCode {
        println!("\n{} within budget, {} over", self.within, self.over);
        if self.over == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// A number that is to be no larger than its budget.
    pub(crate) fn number(&mut self, name: &str, measured: f64, unit: &str, most: f64) {
        self.line(name, &format!("{measured:.2} {unit}"), &format!("{most} {unit}"), measured <= most);
    }

    /// Bytes that went somewhere since `start`: all of them, in no fewer MB/s than the budget.
    pub(crate) fn rate(&mut self, name: &str, bytes: u64, wanted: u64, start: Instant, least: f64) {
        let rate = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
        self.line(
            name,
            &format!("{bytes} bytes, {rate:.0} MB/s"),
            &format!("{least} MB/s"),
            bytes == wanted && rate >= least,
        );
    }

    pub(crate) fn asked(
        &mut self,
        name: &str,
        taken: &Taken,
        status: u16,
        requests: u32,
        seconds: Option<f64>,
    ) {
        let measured = format!("{} requests, {:.3} s", taken.requests, taken.seconds);
        let budget = match seconds {
            Some(seconds) => format!("{requests}, {seconds:.1} s"),
            None => requests.to_string(),
        };
        let fits = taken.status == status
            && taken.requests <= requests
            && seconds.is_none_or(|seconds| taken.seconds <= seconds);
        self.line(name, &measured, &budget, fits);
        if taken.status != status {
            println!("    {}: {}", taken.status, taken.body);
        }
    }

    pub(crate) fn cpu(&mut self, name: &str, milliseconds: f64, budget: f64) {
        self.line(name, &format!("{milliseconds:.3} ms"), &format!("{budget} ms"), milliseconds <= budget);
    }

    pub(crate) fn beside(&mut self, line: &Line) {
        let measured = format!(
            "{} requests, {:.2} s, floor {:.2} s: {:.2} times",
            line.requests,
            line.seconds,
            line.floor,
            line.ratio()
        );
        self.line(line.name, &measured, &format!("{}, {:.2} times", line.most, line.times), line.fits());
    }

    pub(crate) fn line(&mut self, name: &str, measured: &str, budget: &str, fits: bool) {
        let verdict = if fits { "ok  " } else { "OVER" };
        println!("  {verdict}  {name:<38} {measured:<62} budget {budget}");
        if fits { self.within += 1 } else { self.over += 1 }
    }
}
