#!/usr/bin/env python3
"""Serves fakepve on loopback over TLS, and prints `ready URL` when it answers.

It is a second opinion on PVE, written by others (PyPI, AGPL-3.0-or-later): run as a process of its
own, through its public Python API, until it is ended or its parent is.

Access is that of core/docs/prepare-pve.md: an API token that is not root's, with the minimal role and no more. The
cluster has two versions of one preset, a second preset, and guests of others.
"""

import argparse
import asyncio
import os
import signal

from fakepve import FakePve

NODE = "pve1"
GUESTS = """
    VM.Audit VM.Allocate VM.Clone VM.PowerMgmt VM.Snapshot VM.Config.Options VM.Config.Network
    VM.Config.CPU VM.Config.Memory VM.Config.Disk VM.Console VM.GuestAgent.Unrestricted
""".split()
# The fake wants it for a VM's `ipconfig0`, where PVE wants VM.Config.Network (qemu-server `API2/Qemu.pm`).
GUESTS.append("VM.Config.HWType")
# As if it had been got from https://images.example.com/base.tar.zst.
ARCHIVE = "edge-p7cw5nhtgkzxsowq-base.tar.zst"
TEMPLATES = {
    100001: "pvelxc_1vcpu_1gb_8gb_v1",
    100002: "pvelxc_1vcpu_1gb_8gb_v2",
    100003: "pvelxc_2vcpu_2gb_8gb_v1",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--certificate", required=True, help="PEM, for 127.0.0.1")
    parser.add_argument("--key", required=True, help="PEM")
    parser.add_argument("--token", required=True, help="USER@REALM!TOKENID=SECRET, gets the minimal role")
    parser.add_argument("--admin-token", required=True, help="sees everything")
    parser.add_argument("--time-scale", type=float, default=1.0, help="real seconds per second of PVE")
    parser.add_argument("--clone", type=float, default=1.0, help="seconds of PVE that a clone takes")
    parser.add_argument("--start", type=float, default=1.0, help="that a start takes")
    parser.add_argument("--destroy", type=float, default=1.0, help="that a destroy takes")
    parser.add_argument("--others", type=int, default=0, help="guests of others, besides the usual ones")
    args = parser.parse_args()
    asyncio.run(serve(args))


class Pve(FakePve):
    """With the one answer that it has from the schema alone: every guest here is on LVM-thin."""

    async def answer(self, request, match, params, user, call=None):
        data = await super().answer(request, match, params, user, call)
        if match and match.template.endswith("/{vmid}/feature"):
            return {"hasFeature": 1, "nodes": [NODE]}
        return data


async def serve(args):
    pve = Pve(host="127.0.0.1", port=0)
    pve.version, pve.release_version = "9.1.9", "9.1"
    pve.time_scale = args.time_scale
    pve.ct_secs.update(clone=args.clone, destroy=args.destroy)
    # Its log of requests would grow, and nobody reads it.
    pve.max_requests = 100
    grant(pve, args)
    fill(pve, args.others)
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await pve.start(args.certificate, args.key)
    print("ready", pve.url, flush=True)
    parent = os.getppid()
    while not stop.is_set() and os.getppid() == parent:
        # A clone has the fake's own start time of zero.
        for guest in pve.cts:
            guest.start_secs = guest.start_secs or args.start
        for guest in pve.vms:
            # Its agent answers, and runs nothing.
            guest.agent = guest.agent or {}
        await asyncio.sleep(0.01)
    await pve.stop()


def grant(pve, args):
    for token, rights in (
        (args.token, {"/vms": GUESTS, "/storage/local-lvm": ["Datastore.AllocateSpace", "Datastore.Audit"]}),
        (args.admin_token, {"/": ["VM.Audit", "Sys.Audit"]}),
    ):
        name, secret = token.rsplit("=", 1)
        pve.apitokens[name] = secret
        for path, privileges in rights.items():
            pve.grant(name, path, *privileges)
    service = args.token.rsplit("=", 1)[0]
    pve.grant(service, "/nodes", "Sys.Audit")
    pve.grant(service, "/sdn/zones/localnetwork/vmbr0", "SDN.Use")
    pve.grant(service, "/storage/local", "Datastore.Audit")


def fill(pve, others):
    pve.store_file("local", ARCHIVE, 1 << 20, "vztmpl")
    for vmid, tag in TEMPLATES.items():
        rootfs = f"local-lvm:base-{vmid}-disk-0,size=8G"
        net0 = "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth"
        config = {"tags": tag, "rootfs": rootfs, "net0": net0, "description": "The template's own notes."}
        pve.add_ct(vmid, f"template-{vmid}", node=NODE, config=config, template=True)
    disk = "local-lvm:base-100004-disk-0,size=8G"
    config = {"tags": "pvevm_1vcpu_1gb_8gb_v1", "scsi0": disk, "boot": "order=scsi0", "agent": "1",
              "net0": "virtio=BC:24:11:00:00:04,bridge=vmbr0", "ide2": "local-lvm:vm-100004-cloudinit,media=cdrom", "ipconfig0": "ip=dhcp", "template": 1}
    pve.add_vm(100004, "template-100004", node=NODE, config=config, template=True)
    mark = '{"pve-edge":1,"deployment":"other"}'
    pve.add_ct(101, "database", node=NODE, status="running", config={"tags": "prod;db", "description": "Mine."})
    # In the sandboxes' range, and tagged as if by a deployment.
    pve.add_ct(200010, "stranger", node=NODE, status="running", config={"tags": "edge", "description": mark})
    pve.add_vm(102, "windows", node=NODE, status="running", config={"name": "windows", "tags": "prod"})
    for at in range(others):
        pve.add_ct(300000 + at, f"other-{at}", node=NODE, config={"tags": "team-a;nightly"})


if __name__ == "__main__":
    main()
