//! The way to guests, as health tells it.

use pve_edge_bed::sim::execd::Streamed;

use crate::stage::prelude::*;

/// The way to guests: through the tunnel and the proxy beside PVE, by a port at which nobody listens.
#[test]
fn the_broken_link_of_the_way_to_guests_is_told() {
    let settings = [("PVE_IP_POOL_CIDR", "10.1.0.0/16"), ("PVE_GATEWAY", "10.1.0.1")];
    let stage = Stage::of(World::new(plain_sim(Setup::default()), 7), &settings);
    let codes = |stage: &Stage| {
        let report = stage.ask(Ask::get("/api/health/sandbox")).json();
        let warnings = report["warnings"].as_array().expect("warnings").clone();
        let of_the_way = ["tunnel-down", "proxy-refused"];
        let codes: Vec<_> = warnings.iter().filter_map(|it| it["code"].as_str().map(str::to_owned)).collect();
        codes.into_iter().filter(|it| of_the_way.contains(&&**it)).collect::<Vec<_>>()
    };
    // No sandbox has the first address, and the proxy says so: the way is whole.
    assert_eq!(codes(&stage), Vec::<String>::new(), "{}", stage.told());
    let answers = |status: u16, fault: Option<&'static str>| {
        let stage = Stage::of(World::new(plain_sim(Setup::default()), 7), &settings);
        stage.world.serve("gate.sandbox.test", move |_, _| {
            let headers =
                fault.map(|it| ("x-edge-fault".parse().expect("a name"), it.parse().expect("a value")));
            Streamed { status, headers: headers.into_iter().collect(), pieces: Vec::new() }
        });
        codes(&stage)
    };
    assert_eq!(answers(404, Some("refused")), ["proxy-refused"]);
    assert_eq!(answers(530, None), ["tunnel-down"]);
    assert_eq!(answers(502, None), ["tunnel-down"]);
    assert_eq!(answers(404, None), ["proxy-refused"]);
    assert_eq!(answers(502, Some("dial")), Vec::<String>::new());
    stage.world.fault_if(|seen| seen.host.starts_with("gate.").then_some(Fault::NeverSent));
    assert_eq!(codes(&stage), ["tunnel-down"]);
}
