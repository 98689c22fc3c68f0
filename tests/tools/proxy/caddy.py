"""Real Caddy, with the configuration that the script has written."""

import functools
import os
import re
import socket
import subprocess
import time

from host import ROOT, Host, key

CADDIES = [
    it for it in (ROOT / ".tools/debian-caddy/usr/bin/caddy", ROOT / ".tools/venv/bin/caddy")
    if os.access(it, os.X_OK)
]
KEY = key()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as it:
        return it.getsockname()[1]


class Caddy:
    def __init__(self, program, text=None, replace=(), **changes):
        self.program = program
        self.host = Host(program)
        self.port = free_port()
        if text is None:
            succeeds, said = self.host.run("--yes", **changes)
            assert succeeds, said
            text = self.host.read("etc/pve-edge/Caddyfile")
            text, count = re.subn(r"^http://:39370 {", f"http://:{self.port} {{", text, flags=re.M)
            assert count == 1, text
        for old, new in replace:
            assert old in text, old
            text = text.replace(old, new)
        self.config = self.host.folder / "Caddyfile"
        self.config.write_text(text.replace("PORT-OF-THE-TEST", str(self.port)))
        self.log = self.host.folder / "log"
        home = self.host.folder / "home"
        command = [program, "run", "--adapter", "caddyfile", "--config", self.config]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, env={"HOME": str(home)}, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)

    @property
    def is_old(self):
        said = subprocess.run([self.program, "version"], capture_output=True, text=True).stdout
        major, minor = re.match(r"v?(\d+)\.(\d+)", said).groups()
        return (int(major), int(minor)) < (2, 7)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.host.close()

    def send(self, request, timeout=5):
        """Sends bytes and reads what comes until the end. `b""` is an end without an answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as it:
            answer = b""
            try:
                it.sendall(request)
                while piece := it.recv(1 << 16):
                    answer += piece
            except ConnectionError:
                pass
            return answer

    def ask(self, to, path="/", *, headers=(), timeout=5, **known):
        return Answer(self.send(request(to, path, headers=headers, **known), timeout))


def each_caddy(**changes):
    """A test that is run with each Caddy, of a deployment with these settings."""
    def of(test):
        @functools.wraps(test)
        def run(self):
            self.assertTrue(CADDIES, "there is no Caddy: tests/tools/setup")
            for program in CADDIES:
                with self.subTest(caddy=program):
                    caddy = Caddy(program, **changes)
                    try:
                        test(self, caddy)
                    finally:
                        caddy.close()
        return run
    return of


def request(to, path="/", *, headers=(), method="GET", body=b"", authority="tunnel.test", last="Connection: close", **known):
    """A request as the gateway sends it. A header that is None is not sent; one that is a list, several times."""
    told = {
        "X-Edge-Key": KEY,
        "X-Edge-To": to,
        "X-Edge-Host": "a.example.com",
        "X-Edge-Public-Host": "port-8080-vm-200004-abc.example.com",
        "X-Edge-Client": "203.0.113.7",
    }
    told |= {"X-Edge-" + name.replace("_", "-").title(): value for name, value in known.items()}
    lines = [f"{method} {path} HTTP/1.1", *([f"Host: {authority}"] if authority is not None else [])]
    for name, value in told.items():
        values = value if isinstance(value, list) else [value]
        lines += [f"{name}: {it}" for it in values if it is not None]
    lines += [*headers, *([last] if last else [])]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Answer:
    def __init__(self, text):
        self.text = text
        head, _, self.raw = text.partition(b"\r\n\r\n")
        self.head = head.decode("latin-1")
        first = self.head.split(" ")
        self.status = int(first[1]) if len(first) > 1 else None
        self.headers = [tuple(it.split(": ", 1)) for it in self.head.split("\r\n")[1:] if ": " in it]
        if self.get("Transfer-Encoding") == ["chunked"]:
            self.body, self.is_whole = unchunked(self.raw)
        else:
            self.body = self.raw
            length = self.get("Content-Length")
            self.is_whole = not length or len(self.raw) == int(length[0])

    def get(self, name):
        return [value for known, value in self.headers if known.lower() == name.lower()]

    @property
    def fault(self):
        return ",".join(self.get("X-Edge-Fault"))

    def __repr__(self):
        return repr(self.text[:600])


def unchunked(raw):
    body = b""
    while True:
        size, found, rest = raw.partition(b"\r\n")
        if not found:
            return body, False
        length = int(size, 16)
        if not length:
            return body, True
        body += rest[:length]
        if len(rest) < length + 2:
            return body, False
        raw = rest[length + 2 :]
