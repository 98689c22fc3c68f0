//! What operations take where tasks and answers take as long as on a real PVE, beside a floor: a
//! client that needs to ask nothing because it knows the end of each task. All of it in virtual time.

mod client;
mod product;

use time::Duration;

use crate::{
    sim::{Setup, Sim, Spec, execd::ExecLine},
    world::World,
};
use client::Floor;
use product::Product;

/// What an operation took, and what it may take.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was asked.
    pub name: &'static str,
    /// Requests to PVE, the most of all rounds.
    pub requests: usize,
    /// How many there may be.
    pub most: usize,
    /// Seconds, the median of all rounds.
    pub seconds: f64,
    /// Seconds of the floor, likewise.
    pub floor: f64,
    /// How many times the floor's seconds there may be.
    pub times: f64,
}

/// Name, requests, and time as a multiple of the floor's.
const BUDGETS: [(&str, usize, f64); 5] = [
    ("create", 8, 1.10),
    ("stop", 5, 1.15),
    ("start", 5, 1.10),
    ("delete, running", 4, 1.15),
    ("8 creates at once", 90, 1.25),
];

const ROUNDS: u64 = 5;
const TEMPLATE: u32 = 9000;
/// Long enough for pvestatd to have told.
const QUIET: Duration = Duration::seconds(30);

impl Line {
    /// How many times the floor's seconds it took.
    pub fn ratio(&self) -> f64 {
        self.seconds / self.floor
    }

    /// Whether requests and time are within the budget.
    pub fn fits(&self) -> bool {
        self.requests <= self.most && self.ratio() <= self.times
    }
}

/// Every operation, in several rounds. An error is an answer that was not success.
pub fn measure() -> Result<Vec<Line>, String> {
    let rounds = (1..=ROUNDS).map(round).collect::<Result<Vec<_>, _>>()?;
    let lines = BUDGETS.iter().enumerate().map(|(nth, &(name, most, times))| {
        let all = || rounds.iter().filter_map(|round| round.get(nth));
        Line {
            name,
            requests: all().map(|it| it.requests).max().unwrap_or(0),
            most,
            seconds: median(all().map(|it| it.seconds).collect()),
            floor: median(all().map(|it| it.floor).collect()),
            times,
        }
    });
    Ok(lines.collect())
}

/// One operation once.
struct Sample {
    requests: usize,
    seconds: f64,
    floor: f64,
}

fn round(seed: u64) -> Result<Vec<Sample>, String> {
    let (product, floor) = (Product::new(world(seed), seed), Floor::new(world(seed)));
    let created = product.all(1, "POST", "/api/sandboxes", 201)?;
    let mut samples = vec![created.beside(floor.timed([floor.create(0)]))];
    let path = format!("/api/sandboxes/{}", created.id);
    for (method, verb, status) in [("POST", "/stop", 200), ("POST", "/start", 200), ("DELETE", "", 204)] {
        product.world.advance(QUIET);
        floor.world.advance(QUIET);
        let took = product.all(1, method, &format!("{path}{verb}"), status)?;
        samples.push(took.beside(floor.timed([match verb {
            "/stop" => floor.stop(),
            "/start" => floor.start(),
            _ => floor.delete(),
        }])));
    }
    let (product, floor) = (Product::new(world(seed), seed), Floor::new(world(seed)));
    let took = product.all(8, "POST", "/api/sandboxes", 201)?;
    samples.push(took.beside(floor.timed((0..8).map(|nth| floor.create(nth)))));
    Ok(samples)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// A template, and commands that end at once.
fn world(seed: u64) -> World {
    let mut sim = Sim::new(Setup { seed, ..Setup::measured() });
    sim.add(Spec::template(TEMPLATE).tags("pvelxc_1vcpu_1gb_8gb_v1"));
    sim.set_runner(|_, _| vec![ExecLine::Exit(0)]);
    let world = World::new(sim, seed);
    world.latency(1, 2);
    world
}
