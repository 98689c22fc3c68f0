//! Clients of one hub, in virtual time: their requests meet each other in the terminal.

use std::{sync::Arc, time::Duration};

use pve_edge_guest_protocol::Unique;
use time::OffsetDateTime;

use self::bus::{Bus, Faults};
use super::{
    hub::Hub,
    line::Started,
    process::{Failure, Input, Job, start},
    terminal::Terminal,
};
use crate::io::{Platform, invocation::Invocation};

mod bus;

/// As the API lets a start take.
const TIME: Duration = Duration::from_secs(25);

/// Finds the hub, and starts a process, whose script has so many bytes; what came of it, and when.
async fn client(bus: Bus, number: u8, bytes: usize) -> (Result<Started, Failure>, OffsetDateTime) {
    let platform = Platform {
        name: "test",
        max_wait: TIME,
        requests: 50,
        answer_bytes: 1 << 20,
        request_bytes: None,
        streams: true,
        upgrades: false,
        private_network: true,
        in_guest_network: true,
        unverified_tls: false,
    };
    let invocation = Arc::new(Invocation::new(bus.clone(), "test", platform, [number; 32]));
    let until = invocation.now() + TIME;
    let terminal = Terminal::opened(bus.clone(), bus.client());
    let job = Job { script: "#".repeat(bytes), input: Input::None, timeout_ms: None, is_kept: false };
    let started = match Hub::open(invocation, terminal).await {
        Ok(mut hub) => start(&mut hub, Unique([number; 16]), &job, until).await,
        Err(_) => Err(Failure::Unsent),
    };
    (started, crate::io::Io::now(&bus))
}

#[test]
fn a_piece_that_is_lost_is_sent_again_however_much_others_are_told() {
    let bus = Bus::new(Faults { lost_puts: 1, chatter: Some(Duration::from_millis(90)) });
    let (started, at) = bus.run(client(bus.clone(), 1, 100));
    assert!(matches!(started, Ok(Started::Now)), "{started:?}");
    assert!(at - OffsetDateTime::UNIX_EPOCH < Duration::from_secs(2), "{at}");
}
