//! Serves the stand-in of Morph Cloud on loopback: `morph KEY`. Prints where, and ends with its standard input.
//! Commands in its instances are real processes, as whoever starts it.

use std::io::Read;

use pve_edge_bed::morph::{Morph, Setup, real, server::serve};
use time::{Duration, OffsetDateTime};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let key = std::env::args().nth(1).unwrap_or_default();
    let mut morph = Morph::new(OffsetDateTime::now_utc(), &key);
    let short = Duration::milliseconds(300);
    morph.setup =
        Setup { start: short, pause: short, snapshot: short, lag: Duration::ZERO, ..Setup::default() };
    morph.set_runner(real());
    let server = serve(morph, 0).await?;
    println!("http://{}/api", server.address);
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    drop(ended.await);
    Ok(())
}
