//! The simulated PVE of the demo: one node, templates of both kinds, an API token with
//! the roles of the page about PVE, on a free port of loopback.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use pve_edge_bed::{
    guests::{GuestState, Inventory},
    sim::{
        Guest, Setup, Sim, Spec, Storage, StorageKind,
        server::{Server, Shared, lock, serve},
    },
};
use pve_edge_core::pve::privileges::{AGENTS, GUESTS};
use time::OffsetDateTime;

const TOKEN: &str = "edge@pve!demo";

/// A simulated PVE that is being served.
pub(crate) struct Simulated {
    /// How the API finds it.
    pub settings: Vec<(&'static str, String)>,
    /// Its guests.
    pub inventory: Arc<dyn Inventory>,
    /// The simulator.
    pub sim: Shared,
    /// Ends when it is dropped.
    pub server: Server,
}

/// Starts one on a free port of loopback.
pub(crate) async fn start(secret: &str) -> io::Result<Simulated> {
    let sim: Shared = Arc::new(Mutex::new(cluster(secret)));
    let server = serve(sim.clone(), 0).await?;
    let settings = vec![
        ("PVE_API_URL", format!("http://{}", server.address)),
        ("PVE_API_TOKEN", format!("{TOKEN}={secret}")),
        ("PVE_IP_POOL_CIDR", "127.64.0.0/10".to_owned()),
    ];
    Ok(Simulated { settings, inventory: Arc::new(Guests(sim.clone())), sim, server })
}

fn cluster(secret: &str) -> Sim {
    let storages = vec![Storage::new("local-lvm", StorageKind::LvmThin), Storage::local()];
    let mut sim = Sim::new(Setup {
        start: OffsetDateTime::now_utc(),
        storages,
        ..Setup::default().without_mount_protection()
    });
    sim.add(Spec::template(9000).tags("pvelxc_2vcpu_4gb_16gb_v1").disk("16G"));
    sim.add(Spec::template(9001).tags("pvelxc_4vcpu_8gb_32gb_v1").disk("16G"));
    sim.add(Spec::vm_template(9100).tags("pvevm_2vcpu_4gb_16gb_v1").disk("16G"));
    let user = TOKEN.split('!').next().unwrap_or_default();
    sim.token(TOKEN, secret, true);
    for who in [TOKEN, user] {
        sim.grant(who, "/vms", &[&GUESTS[..], &AGENTS[..1]].concat());
        sim.grant(
            who,
            "/storage",
            &["Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit"],
        );
        sim.grant(who, "/sdn/zones/localnetwork/vmbr0", &["SDN.Use"]);
        sim.grant(who, "/nodes", &["Sys.AccessNetwork", "Sys.Audit"]);
    }
    sim
}

struct Guests(Shared);

impl Inventory for Guests {
    fn guest(&self, vmid: u32) -> Option<GuestState> {
        let sim = lock(&self.0);
        let guest = sim.guest(vmid)?;
        let run = guest.run.as_ref().filter(|run| run.ready <= sim.now());
        Some(GuestState {
            running: run.is_some() || guest.is_suspended(),
            token: guest.identity(),
            card: guest.card(),
            is_bare: guest.is_bare,
            ip: IpAddr::V4(address(guest)),
        })
    }

    fn at(&self, ip: IpAddr) -> Option<u32> {
        let sim = lock(&self.0);
        sim.guests().find(|guest| IpAddr::V4(address(guest)) == ip).map(|guest| guest.vmid)
    }
}

/// Of loopback: the one of the pool that it was given, or one for its VMID.
fn address(guest: &Guest) -> Ipv4Addr {
    let given = guest.run.as_ref().map(|run| run.address).filter(Ipv4Addr::is_loopback);
    let [_, a, b, c] = guest.vmid.to_be_bytes();
    given.unwrap_or(Ipv4Addr::new(127, 64 | (a & 63), b, c))
}
