//! Where the services of a sandbox are reached, and the same way for commands.

use crate::stage::prelude::*;

#[test]
fn each_service_has_its_host_and_commands_take_the_same_way() {
    let stage = Stage::new();
    let sandbox = stage.ask(Ask::create());
    let vmid = vmid_of(&sandbox.id());
    for service in sandbox.json()["services"].as_array().expect("services") {
        let expected = format!("https://port-{}-vm-{vmid}.sandbox.test", service["port"]);
        assert_eq!(service["url"], expected);
    }
    let socket = format!("wss://port-9776-vm-{vmid}.sandbox.test/socket.io/");
    assert_eq!(sandbox.json()["viewers"]["socketIo"], socket);
    // Commands take the same way.
    let before = stage.world.requests().len();
    assert_eq!(stage.ask(Ask::exec(&sandbox.id(), "true")).status, 200);
    let hosts: Vec<_> = stage.world.requests().iter().skip(before).map(|it| it.host.clone()).collect();
    assert!(hosts.contains(&format!("port-39375-vm-{vmid}.sandbox.test")), "{hosts:?}");
}
