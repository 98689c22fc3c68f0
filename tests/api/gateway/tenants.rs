//! Tenants: one VMID is a sandbox's, and then another team's.

use super::*;
use crate::stage::SECRET;

/// A deployment whose guests have their addresses by DHCP, and the project's own daemon.
fn by_dhcp() -> House {
    let world = Stage::with_daemon(Kind::Lxc, Setup::default(), SECRET).world;
    House::of(Stage::of(world, &[("EDGE_GUEST_NETWORK", "10.0.0.0/8")]))
}

/// A pool in which there is one VMID.
const ONE: [(&str, &str); 2] = [("PVE_IP_POOL_CIDR", "10.1.0.0/30"), ("PVE_GATEWAY", "10.1.0.1")];

/// 1. A program of one team sends half of a body, and was let in.
/// 2. Its sandbox is deleted, and another team's gets the VMID.
/// 3. The other half comes: it goes to nobody.
#[test]
fn a_body_that_comes_slowly_is_not_the_next_tenants() {
    let house = House::with(&ONE);
    let (first, url) = (house.vmid, house.url());
    let pieces = [
        Piece::Bytes(b"a".to_vec()),
        Piece::Wait(std::time::Duration::from_secs(20)),
        Piece::Bytes(b"b".to_vec()),
    ];
    let slow = Ask::visit(url).method("POST").pieces(pieces).header("content-length", "2");
    let slow = house.stage.world.spawn(house.stage.pending(slow.header("x-pve-edge-token", "key-blue")));
    house.stage.world.advance(Duration::seconds(1));
    assert_eq!(house.stage.ask(Ask::end(&house.id).wait(20)).status, 204);
    let next = house.stage.ask(Ask::create().by("red").wait(20));
    assert_eq!((next.status, vmid_of(&next.id())), (201, first), "{next:?}");
    house.stage.world.advance(Duration::seconds(90));
    assert_eq!(slow.take().map(|it| it.refusal()).as_deref(), Some("404 gone"));
    assert!(house.taken().is_empty());
}

/// Whoever shows a pass for an earlier tenant keeps nobody out of what the present one serves.
#[test]
fn a_pass_for_an_earlier_tenant_hides_nothing() {
    let house = House::with(&[&ONE[..], &[("EDGE_PUBLIC_SERVICES", "true")]].concat());
    let old = house.link(json!({"ttlSeconds": 600_000}));
    let token = old.split('?').nth(1).expect("a token");
    house.stage.ask(Ask::end(&house.id).wait(20));
    let next = house.stage.ask(Ask::create().by("red").wait(20)).id();
    assert_eq!(vmid_of(&next), house.vmid);
    let public = json!({"port": 3000, "visibility": "public"});
    house.stage.ask(Ask::put(format!("/api/sandboxes/{next}/services/web")).json(public).by("red"));
    house.stage.world.advance(Duration::seconds(10));
    let short = format!("https://port-3000-vm-{}.sandbox.test/", house.vmid);
    assert_eq!(house.stage.ask(Ask::visit(format!("{short}?{token}"))).refusal(), "404 gone");
    assert_eq!(house.stage.ask(Ask::visit(&short)).status, 200);
}

/// Strangers learn the same of a VMID that nobody has, and of a sandbox that cannot be asked now.
#[test]
fn strangers_do_not_learn_that_a_node_is_offline() {
    let house = House::with(&[("EDGE_PUBLIC_SERVICES", "true")]);
    let node = house.id.rsplit('-').next().expect("a node").to_owned();
    house.stage.world.sim_mut().set_online(&node, false);
    house.stage.world.advance(Duration::seconds(30));
    let ask = |vmid: u32| {
        let answer = house.stage.ask(Ask::visit(format!("https://port-3000-vm-{vmid}.sandbox.test/")));
        (answer.refusal(), answer.json()["detail"].clone())
    };
    assert_eq!(ask(house.vmid), ask(200_900));
}

/// By DHCP the address of a guest is the word of whoever is root in it.
#[test]
fn no_guest_leads_its_visitors_to_another_ones_address() {
    let house = by_dhcp();
    let visit =
        |house: &House| house.stage.ask(Ask::visit(house.url()).header("x-pve-edge-token", "key-blue"));
    assert_eq!(visit(&house).status, 200, "{}", house.stage.told());
    let hers = house.stage.ask(Ask::create().by("red").wait(20));
    assert_eq!(hers.status, 201, "{hers:?}");
    let (hers, told) = (vmid_of(&hers.id()), house.seen.clone());
    house.stage.world.serve(&format!("{hers}:3000"), move |request, _| {
        told.borrow_mut().push(request.clone());
        Streamed { status: 200, headers: HeaderMap::new(), pieces: Vec::new() }
    });
    let address = house.stage.world.sim().guest(hers).and_then(|it| it.run.as_ref()).map(|it| it.address);
    house.stage.world.sim_mut().claim_address(house.vmid, address.expect("it runs"));
    house.stage.world.advance(Duration::seconds(10));
    house.taken();
    let refused = visit(&house);
    assert_eq!((refused.refusal(), house.taken().len()), ("503 starting".into(), 0));
    house.stage.world.advance(Duration::seconds(60));
    let refused = visit(&house);
    assert_eq!((refused.refusal(), house.taken().len()), ("502 no-road".into(), 0));
}

/// What sleeps has no address by DHCP, and is woken all the same.
#[test]
fn one_by_dhcp_is_woken() {
    let house = by_dhcp();
    let cookie = house.cookie();
    assert_eq!(house.stage.ask(Ask::act(&house.id, "stop", json!({}))).status, 200);
    house.stage.world.advance(Duration::seconds(20));
    assert_eq!(house.stage.ask(house.inside(&cookie)).refusal(), "503 asleep");
    let open = || house.stage.ask(Ask::visit(house.url()).header("cookie", &*cookie).navigation());
    let woken = open();
    assert_eq!((woken.status, house.starts()), (503, 2), "{woken:?}");
    assert_eq!(woken.header("refresh"), "2");
    house.stage.world.advance(Duration::seconds(20));
    assert_eq!((open().status, house.starts()), (200, 2));
}
