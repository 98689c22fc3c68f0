"""The script on a scratch node: what it does, that it does it once, and what it leaves alone."""

import os
import pathlib
import re
import shutil
import subprocess
import time
import unittest

from host import SECRET, Host, key, script

SHELLS = [it for it in (("sh",), ("dash",), ("busybox", "sh"), ("bash",)) if shutil.which(it[0])]
TOKEN = "eyJhIjoiMTIzIiwidCI6IjQ1NiJ9" * 3
FILES = ["etc/pve-edge/Caddyfile", "etc/systemd/system/pve-edge-proxy.service"]
TUNNEL = ["etc/pve-edge/tunnel-token", "etc/systemd/system/pve-edge-tunnel.service"]
# Where packages come from stays, as they do.
SOURCE = "etc/apt/sources.list.d/cloudflared.list"


class Script(unittest.TestCase):
    def setUp(self):
        self.host = Host()
        self.addCleanup(self.host.close)

    def done(self, *words, **known):
        succeeds, said = self.host.run(*words, **known)
        self.assertTrue(succeeds, said)
        self.assertNotIn(SECRET, said)
        return said

    def refused(self, *words, **known):
        succeeds, said = self.host.run(*words, **known)
        self.assertFalse(succeeds, said)
        return said

    def test_it_does_what_is_missing_and_nothing_twice(self):
        for shell in SHELLS:
            with self.subTest(shell=shell):
                self.host = Host()
                self.addCleanup(self.host.close)
                said = self.done("--yes", shell=shell)
                calls = self.host.calls()
                self.assertEqual([re.sub(r"/tmp/tmp\.\w+", "WORK", it) for it in calls], [
                    "systemctl mask --runtime caddy.service",
                    "apt-get -q update",
                    "apt-get -qy install --no-install-recommends caddy",
                    "systemctl disable caddy.service",
                    "systemctl unmask --runtime caddy.service",
                    "caddy validate --adapter caddyfile --config WORK/Caddyfile",
                    "systemctl daemon-reload",
                    "systemctl enable pve-edge-proxy.service",
                    "systemctl restart pve-edge-proxy.service",
                ])
                for call in calls:
                    self.assertIn(call, said.replace(str(self.host.folder), ""))
                self.assertEqual(self.host.files(), sorted(FILES))
                self.assertEqual([self.host.mode(it) for it in FILES], [0o600, 0o644])
                self.assertFalse((self.host.folder / "state/active-caddy.service").exists())
                self.assertFalse((self.host.folder / "state/enabled-caddy.service").exists())
                # Again, and with the word that was not needed.
                for words in ([], ["--yes"]):
                    self.assertEqual(self.done(*words, shell=shell), "Nothing is to be done.\n")
                self.assertEqual(self.host.calls(), [])
                self.assertEqual(os.listdir(self.host.folder / "tmp"), [])

    def test_it_asks_and_does_nothing_without_a_yes(self):
        self.assertIn("there is no terminal to ask on, and nothing was changed: add --yes", self.refused())
        self.assertEqual((self.host.calls(), self.host.files()), ([], []))
        self.assertIn("--every is no word of this", self.refused("--every"))
        self.assertIn("run this as root", self.refused("--yes", env={"HOST_UID": "1000"}))
        for answer, does in (("n\n", False), ("\n", False), ("y\n", True)):
            said = self.typed(answer)
            self.assertIn("This will be done:", said)
            self.assertEqual(bool(self.host.files()), does, said)

    def typed(self, text, *words):
        """Runs it on a terminal where somebody types this."""
        self.refused(*words, stdin="")
        ours, its = os.openpty()
        os.write(ours, text.encode())
        env = {"PATH": str(self.host.folder / "bin"), "HOST": str(self.host.folder), "TMPDIR": str(self.host.folder / "tmp")}
        done = subprocess.run([shutil.which("sh"), self.host.folder / "proxy.sh", *words], env=env, stdin=its, capture_output=True, text=True, start_new_session=True)
        os.close(its)
        shown = os.read(ours, 4096).decode()
        os.close(ours)
        return done.stderr + shown

    def test_what_has_changed_is_restarted_and_nothing_else(self):
        self.done("--yes", "--tunnel", stdin=TOKEN)
        self.host.calls()
        restart = "systemctl restart pve-edge-proxy.service"
        self.done("--yes", EDGE_SECRET=f"{'n' * 32} {SECRET}")
        self.assertEqual(self.host.calls()[-1:], [restart])
        self.assertIn(f"{key('n' * 32)} {key()}", self.host.read(FILES[0]))
        self.done("--yes")
        self.host.calls()
        # A file that others may read; a service that somebody has stopped, or disabled.
        (self.host.folder / FILES[0]).chmod(0o644)
        self.done("--yes")
        self.assertEqual((self.host.calls()[-1:], self.host.mode(FILES[0])), ([restart], 0o600))
        (self.host.folder / "state/active-pve-edge-proxy.service").unlink()
        (self.host.folder / "state/enabled-pve-edge-tunnel.service").unlink()
        self.done("--yes")
        self.assertEqual(self.host.calls(), [restart, "systemctl enable pve-edge-tunnel.service"])
        self.host.put(FILES[1], "changed")
        self.done("--yes")
        self.assertEqual(self.host.calls(), ["systemctl daemon-reload", restart])

    def test_a_run_that_was_cut_before_the_restart_is_made_up_for(self):
        self.done("--yes")
        self.host.put("state/failing", "")
        time.sleep(0.02)
        changed = {"EDGE_SECRET": f"{'n' * 32} {SECRET}"}
        said = self.refused("--yes", **changed)
        self.assertIn("this failed, and nothing behind it was done: systemctl restart pve-edge-proxy.service", said)
        (self.host.folder / "state/failing").unlink()
        self.host.calls()
        self.done("--yes", **changed)
        self.assertEqual(self.host.calls(), ["systemctl restart pve-edge-proxy.service"])
        # Caddy's own service is not left to start at the next boot.
        (self.host.folder / "state/masked").touch()
        (self.host.folder / "state/enabled-caddy.service").touch()
        self.done("--yes", **changed)
        self.assertEqual(self.host.calls(), ["systemctl disable caddy.service", "systemctl unmask --runtime caddy.service"])

    def test_a_unit_is_in_force_wherever_a_run_was_cut(self):
        reload, restart = "systemctl daemon-reload", "systemctl restart pve-edge-tunnel.service"
        self.done("--yes", "--tunnel", stdin=TOKEN)
        # A service that ends is started again by systemd, by the unit that systemd has read.
        cases = (reload, False, [reload, restart]), (reload, True, [reload, restart]), (restart, False, [restart])
        for number, (cut, ends, calls) in enumerate(cases):
            with self.subTest(cut=cut, ends=ends):
                # Nothing but the unit of cloudflared tells the resolvers.
                self.host.put("etc/resolv.conf", f"nameserver 192.168.1.{number + 2}\n")
                self.host.put("state/failing", cut.removeprefix("systemctl "))
                time.sleep(0.02)
                self.assertIn(f"nothing behind it was done: {cut}", self.refused("--yes"))
                (self.host.folder / "state/failing").unlink()
                if ends:
                    folder = self.host.folder / "run/pve-edge-tunnel"
                    folder.rmdir()
                    folder.mkdir()
                self.host.calls()
                self.done("--yes")
                self.assertEqual(self.host.calls(), calls)
                self.assertEqual(self.done(), "Nothing is to be done.\n")

    def test_a_configuration_that_caddy_does_not_take_changes_nothing(self):
        self.done("--yes")
        before = self.host.read(FILES[0])
        self.host.put("state/invalid", "")
        said = self.refused("--yes", PVE_IP_RESERVED="127.9.0.5")
        self.assertIn("it is wrong\nproxy.sh: this failed, and nothing behind it was done: HOME=", said)
        self.assertEqual(self.host.read(FILES[0]), before)

    def test_somebody_elses_caddy_and_cloudflared_are_left_alone(self):
        for name in ("caddy", "cloudflared"):
            shutil.copy(self.host.folder / "packages" / name, self.host.folder / "bin" / name)
        (self.host.folder / "state/enabled-caddy.service").touch()
        self.done("--yes", "--tunnel", stdin=TOKEN)
        self.assertFalse([it for it in self.host.calls() if "caddy.service" in it or "apt-get" in it or "curl" in it])
        self.assertTrue((self.host.folder / "state/enabled-caddy.service").exists())

    def test_the_tunnels_token_is_in_one_file_and_nowhere_else(self):
        said = self.done("--yes", "--tunnel", stdin=TOKEN + "\n")
        self.assertEqual(self.host.files(), sorted([*FILES, *TUNNEL, SOURCE]))
        self.assertEqual((self.host.read(TUNNEL[0]), self.host.mode(TUNNEL[0])), (TOKEN, 0o600))
        calls = self.host.calls()
        self.assertIn("apt-get -qy install cloudflared", calls)
        self.assertIn("https://pkg.cloudflare.com/cloudflare-public-v2.gpg", " ".join(calls))
        shown = said + self.host.read("state/processes") + "".join(calls)
        for secret in (TOKEN, key()):
            self.assertNotIn(secret, shown)
        unit = self.host.read(TUNNEL[1])
        self.assertIn("IPAddressAllow=127.0.0.1 127.9.0.97 127.9.0.98 127.9.0.99 192.168.1.1 fd00::53\n", unit)
        # It is read once.
        self.assertEqual(self.done("--tunnel"), "Nothing is to be done.\n")
        self.done("--yes", "--new-token", stdin="b" * 60)
        self.assertEqual(self.host.calls(), ["systemctl restart pve-edge-tunnel.service"])
        self.assertEqual(self.host.read(TUNNEL[0]), "b" * 60)
        for wrong in ("", "\n", "a b\n", "$(reboot)", "'"):
            self.assertIn("this is no token of a tunnel, and nothing was changed", self.refused("--yes", "--new-token", stdin=wrong))
        self.assertEqual(self.host.read(TUNNEL[0]), "b" * 60)

    def test_the_word_of_the_apis_command_sets_up_and_replaces_a_token(self):
        for shell in SHELLS:
            with self.subTest(shell=shell):
                self.host = Host()
                self.addCleanup(self.host.close)
                self.done("--yes", "--new-token", stdin=TOKEN, shell=shell)
                self.assertEqual(self.host.files(), sorted([*FILES, *TUNNEL, SOURCE]))
                self.host.calls()
                self.assertEqual(self.done("--new-token", stdin=TOKEN + "\n", shell=shell), "Nothing is to be done.\n")
                self.assertEqual(self.host.calls(), [])
                # The tunnel was deleted and made again.
                said = self.done("--yes", "--new-token", stdin="b" * 60, shell=shell)
                self.assertEqual((self.host.read(TUNNEL[0]), self.host.mode(TUNNEL[0])), ("b" * 60, 0o600))
                self.assertEqual(self.host.calls(), ["systemctl restart pve-edge-tunnel.service"])
                self.assertNotIn("b" * 60, said + self.host.read("state/processes"))

    def test_a_token_is_not_shown_where_it_is_typed(self):
        said = self.typed(f"{TOKEN}\ny\n", "--tunnel")
        self.assertIn("The token of the tunnel, which is not shown: ", said)
        self.assertEqual(self.host.read(TUNNEL[0]), TOKEN)

    def test_it_takes_away_what_it_has_made(self):
        self.done("--yes", "--tunnel", stdin=TOKEN)
        self.host.calls()
        self.assertIn("add --yes", self.refused("--remove"))
        self.assertEqual(self.host.files(), sorted([*FILES, *TUNNEL, SOURCE]))
        self.done("--yes", "--remove")
        self.assertEqual(self.host.calls(), [
            "systemctl disable --now pve-edge-tunnel.service",
            "systemctl disable --now pve-edge-proxy.service",
            "systemctl daemon-reload",
        ])
        self.assertEqual(self.host.files(), [SOURCE])
        self.assertFalse((self.host.folder / "etc/pve-edge").exists())
        self.assertEqual(self.done("--remove"), "Nothing is to be done.\n")

    def test_another_deployments_proxy_is_left_alone(self):
        self.done("--yes")
        for words in (["--yes"], ["--yes", "--remove"]):
            self.assertIn("is not this deployment's", self.refused(*words, EDGE_DEPLOYMENT="other"))
        self.assertEqual(self.host.files(), sorted(FILES))

    def test_what_a_full_disk_or_a_loss_of_power_has_left_is_replaced(self):
        mark = "# pve-edge: the proxy of the deployment "
        for shell in SHELLS:
            for left in ("", "\n", mark, mark + "ho", mark + "home", "\0" * 4096):
                with self.subTest(shell=shell, left=left[:50]):
                    self.host = Host()
                    self.addCleanup(self.host.close)
                    self.done("--yes", shell=shell)
                    whole = self.host.read(FILES[0])
                    self.host.put(FILES[0], left)
                    self.host.calls()
                    self.done("--yes", shell=shell)
                    self.assertEqual(self.host.read(FILES[0]), whole)
                    self.assertEqual(self.host.calls()[1:], ["systemctl restart pve-edge-proxy.service"])
                    self.host.put(FILES[0], left)
                    self.done("--yes", "--remove", shell=shell)
                    self.assertEqual(self.host.files(), [])

    def test_an_empty_file_of_a_token_is_none(self):
        self.done("--yes", "--tunnel", stdin=TOKEN)
        self.host.put(TUNNEL[0], "")
        self.assertIn("this is no token of a tunnel, and nothing was changed", self.refused("--yes"))
        self.done("--yes", stdin=TOKEN)
        self.assertEqual(self.host.read(TUNNEL[0]), TOKEN)

    def test_a_file_that_cannot_be_written_whole_leaves_the_one_that_is_there(self):
        self.done("--yes", "--tunnel", stdin=TOKEN)
        before = {it: self.host.read(it) for it in self.host.files()}
        install = self.host.read("bin/install")
        full = '#!/bin/sh\nfor last; do :; done\nprintf half >"$last"\necho "No space left on device" >&2\nexit 1\n'
        self.host.put("etc/resolv.conf", "nameserver 192.168.1.2\n")
        for words, known in ((["--new-token"], {"stdin": "b" * 60}), ([], {"PVE_IP_RESERVED": "127.9.0.5"}), ([], {})):
            self.host.program("bin/install", full)
            self.assertIn("No space left on device", self.refused("--yes", *words, **known))
            self.assertEqual({it: self.host.read(it) for it in before}, before)
        # Whatever was left is taken away too.
        self.host.program("bin/install", install)
        self.done("--yes", "--remove")
        self.assertEqual(self.host.files(), [SOURCE])
        self.assertFalse((self.host.folder / "etc/pve-edge").exists())

    def test_nothing_is_written_where_guests_are_not_known(self):
        for changes in ({"PVE_IP_POOL_CIDR": None, "PVE_GATEWAY": None}, {"SANDBOX_PROVIDER": "morph", "MORPH_API_KEY": "k"}):
            with self.assertRaisesRegex(ValueError, "unsupported"):
                script(**changes)

    def test_shells_read_it(self):
        text = script(PVE_IP_POOL_CIDR="10.0.0.0/20", PVE_GATEWAY="10.0.0.1", PVE_IP_RESERVED=None)
        self.host.put("proxy.sh", text)
        for shell in SHELLS:
            subprocess.run([*shell, "-n", self.host.folder / "proxy.sh"], check=True)
        if shutil.which("shellcheck"):
            subprocess.run(["shellcheck", "-s", "sh", "-e", "SC3013,SC2154", self.host.folder / "proxy.sh"], check=True)

    def test_the_services_may_do_little(self):
        self.done("--yes", "--tunnel", stdin=TOKEN)
        for name in (FILES[1], TUNNEL[1]):
            unit = self.host.read(name)
            self.assertFalse(re.search(r"[A-Z]{3,}-[A-Z-]+|DEPLOYMENT|GUESTS", unit), unit)
            for secret in (TOKEN, key()):
                self.assertNotIn(secret, unit)
            if not shutil.which("systemd-analyze"):
                continue
            command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", self.host.folder / name]
            rated = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(rated.returncode, 0, rated.stdout[-400:] + rated.stderr)
            unknown = [it for it in rated.stderr.splitlines() if "Unknown" in it and "LogFilterPatterns" not in it]
            self.assertEqual(unknown, [])


if __name__ == "__main__":
    unittest.main()
