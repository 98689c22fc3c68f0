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

/// Where guests have their addresses by DHCP, one that runs is asked for, and where none runs nobody is.
#[test]
fn the_way_to_guests_by_dhcp_is_that_to_one_that_runs() {
    let settings = [("EDGE_GUEST_NETWORK", "10.0.0.0/8")];
    let stage = Stage::of(World::new(plain_sim(Setup::default()), 7), &settings);
    let asked = |stage: &Stage| {
        stage.world.clear_transcript();
        let report = stage.ask(Ask::get("/api/health/sandbox")).json();
        let is_of_the_way = |it: &&Value| it["code"] == "tunnel-down" || it["code"] == "proxy-refused";
        let wrong = report["warnings"].as_array().expect("warnings").iter().filter(is_of_the_way).count();
        (wrong, stage.world.transcript().contains("gate.sandbox.test"))
    };
    assert_eq!(asked(&stage), (0, false), "{}", stage.told());
    assert_eq!(stage.ask(Ask::create()).status, 201);
    stage.world.advance(Duration::seconds(15));
    assert_eq!(asked(&stage), (0, true), "{}", stage.told());
    stage.world.fault_if(|seen| seen.host.starts_with("gate.").then_some(Fault::NeverSent));
    assert_eq!(asked(&stage), (1, true));
}

/// A deployment in the guests' network may be the gateway itself: the name would lead back to it.
#[test]
fn a_deployment_in_the_guests_network_has_no_way_to_be_broken() {
    let settings = [("PVE_IP_POOL_CIDR", "10.1.0.0/16"), ("PVE_GATEWAY", "10.1.0.1")];
    let mut stage = Stage::of(World::new(plain_sim(Setup::default()), 7), &settings);
    (stage.platform.private_network, stage.platform.in_guest_network) = (true, true);
    stage.world.fault_if(|seen| seen.host.starts_with("gate.").then_some(Fault::NeverSent));
    let report = stage.ask(Ask::get("/api/health/sandbox"));
    assert!(!report.body.contains("tunnel-down") && !report.body.contains("proxy-refused"), "{report:?}");
}
