#!/usr/bin/env python3
"""Serves a Worker that worker-build has made on loopback, in workerd alone: the proxies of `wrangler dev`
keep the header `Connection` and many megabytes of each body to themselves, and take most of a request's time.

Prints `ready URL` when it answers, and serves until it is ended or its parent is. Its bindings are those that it has at
Cloudflare: the secrets that are named here, the files of guest/dist as ASSETS, with --binding a way into the private
network as PVE, and with --gate one to a single address, whatever the URL's host is, as GATE.
"""

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
WORKERD = ROOT / ".tools/node_modules/workerd/bin/workerd"

CONFIGURATION = """\
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [{services}],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "worker")],
);

const worker :Workerd.Worker = (
  modules = [{modules}],
  bindings = [{bindings}],
  compatibilityDate = "{date}",
  globalOutbound = "net",
);
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", type=pathlib.Path, default=ROOT / "worker", help="its folder")
    parser.add_argument("--port", type=int, default=0, help="a free one by default")
    parser.add_argument("--binding", action="store_true", help="bind PVE to a way into the private network")
    parser.add_argument("--gate", metavar="HOST:PORT", help="bind GATE to the proxy beside PVE that is there")
    parser.add_argument("--log", type=pathlib.Path, required=True, help="file for what workerd and the Worker print")
    parser.add_argument("secret", nargs="*", metavar="NAME=TEXT")
    args = parser.parse_args()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda *_: sys.exit(0))
    parent = os.getppid()
    services, bindings = bound(args)
    with served(args.worker / "build", args.log, args.port, services, bindings) as (url, workerd):
        print("ready", url, flush=True)
        while workerd.poll() is None and os.getppid() == parent:
            time.sleep(0.2)


def bound(args):
    """Services and bindings, as workerd's configuration has them."""
    assets = ROOT / "guest/dist"
    assets.mkdir(exist_ok=True)
    services = [f'(name = "assets", disk = {text(assets)})']
    bindings = ['(name = "ASSETS", service = "assets")']
    bindings += [f"(name = {text(name)}, text = {text(value)})" for name, value in (it.split("=", 1) for it in args.secret)]
    if args.binding:
        bindings.append('(name = "PVE", service = "net")')
    if args.gate:
        services.append(f'(name = "gate", external = (address = {text(args.gate)}, http = ()))')
        bindings.append('(name = "GATE", service = "gate")')
    return services, bindings


def text(value):
    """A text of Cap'n Proto's, whose escapes JSON's are as far as they are needed here."""
    return json.dumps(str(value), ensure_ascii=False)


@contextlib.contextmanager
def served(build, log, port=0, services=(), bindings=()):
    """The URL of the Worker in the folder `build`, and workerd's process, once it has answered a request."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pve-edge-workerd-"))
    port = port or free_port()
    modules = ['(name = "index.js", esModule = embed "index.js")']
    modules += [f'(name = "./{wasm.name}", wasm = embed "{wasm.name}")' for wasm in build.glob("*.wasm")]
    # What is embedded is looked for beside the configuration.
    for file in [build / "index.js", *build.glob("*.wasm")]:
        shutil.copy(file, folder)
    date = tomllib.loads((ROOT / "wrangler.toml").read_text())["compatibility_date"]
    certificate = os.environ.get("SSL_CERT_FILE")
    trusted = ""
    if certificate:
        shutil.copy(certificate, folder / "certificate.pem")
        trusted = ', tlsOptions = (trustBrowserCas = true, trustedCertificates = [embed "certificate.pem"])'
    net = f'(name = "net", network = (allow = ["private", "local"]{trusted}))'
    configuration = CONFIGURATION.format(
        port=port,
        services=", ".join(['(name = "worker", worker = .worker)', net, *services]),
        modules=", ".join(modules),
        bindings=", ".join(bindings),
        date=date,
    )
    (folder / "config.capnp").write_text(configuration)
    command = [WORKERD, "serve", folder / "config.capnp"]
    with open(log, "wb") as output:
        workerd = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=end_with_parent,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        await_answer(url, workerd, log)
        yield url, workerd
    finally:
        workerd.kill()
        workerd.wait()
        shutil.rmtree(folder, ignore_errors=True)


def await_answer(url, workerd, log):
    for _ in range(1000):
        if workerd.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{url}/api/health", timeout=30).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("workerd did not get ready:\n" + log.read_text(errors="replace"))


def end_with_parent():
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
