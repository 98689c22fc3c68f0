"""A node on which the proxy's script is run: folders of its own, and stand-ins of what only root may call."""

import functools
import hashlib
import hmac
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
SECRET = "0123456789abcdef0123456789abcdef"
SETTINGS = {
    "PVE_API_URL": "https://127.9.0.99:8006",
    "PVE_API_TOKEN": "edge@pve!api=7f5ab1d0",
    "EDGE_API_KEYS": f"ops:{'ab' * 32}:admin",
    "EDGE_SECRET": SECRET,
    "EDGE_DEPLOYMENT": "home",
    "PVE_IP_POOL_CIDR": "127.9.0.0/24",
    "PVE_GATEWAY": "127.9.0.1",
    "PVE_IP_RESERVED": "127.9.0.10-127.9.0.20",
}

# Programs that the script may use. Each notes how it is called, as a list of processes shows it.
TOOLS = "sed cat cmp stat install mv sync mktemp paste rm rmdir sort stty touch mkdir".split()

SYSTEMCTL = r"""#!/bin/sh
# Which units are enabled and active, and which units' files have been read, is kept as files.
state=$HOST/state
units=$HOST/etc/systemd/system
for last; do :; done
case $* in
    *is-enabled*caddy.service)
        [ -e "$state/masked" ] && echo masked-runtime
        [ -e "$state/enabled-caddy.service" ] ;;
    *is-enabled*) [ -e "$state/enabled-$last" ] ;;
    *is-active*) [ -e "$state/active-$last" ] ;;
    'show -p NeedDaemonReload '*)
        [ ! -e "$state/read-$last" ] || [ "$(stat -c %y "$units/$last")" = "$(cat "$state/read-$last")" ] || needs=yes
        echo "NeedDaemonReload=${needs-no}" ;;
    *)
        echo "systemctl $*" >>"$state/calls"
        if [ -e "$state/failing" ]; then
            case $* in "$(cat "$state/failing")"*) exit 1 ;; esac
        fi
        case $* in
            daemon-reload)
                for it in "$units"/*.service; do
                    [ ! -e "$it" ] || stat -c %y "$it" >"$state/read-${it##*/}"
                done ;;
            'mask --runtime '*) touch "$state/masked" ;;
            'unmask --runtime '*) rm "$state/masked" ;;
            'enable '*) touch "$state/enabled-$last" ;;
            'restart '*)
                touch "$state/active-$last"
                rm -rf "$HOST/run/${last%.service}"
                mkdir "$HOST/run/${last%.service}" ;;
            'disable --now '*) rm -f "$state/enabled-$last" "$state/active-$last" ;;
            'disable '*) rm -f "$state/enabled-$last" ;;
        esac ;;
esac
"""
APT_GET = r"""#!/bin/sh
# A package is a program; that of Caddy starts its own service, unless it is masked.
for last; do :; done
echo "apt-get $*" >>"$HOST/state/calls"
[ "$last" != update ] || exit 100
install -m 755 "$HOST/packages/$last" "$HOST/bin/$last"
[ "$last" = caddy ] || exit 0
touch "$HOST/state/enabled-caddy.service"
[ -e "$HOST/state/masked" ] || touch "$HOST/state/active-caddy.service"
"""
IP = r"""#!/bin/sh
case $* in
    *address*)
        echo '1: lo    inet 127.0.0.1/8 scope host lo\       valid_lft forever preferred_lft forever'
        echo '2: vmbr0    inet 127.9.0.97/24 brd 127.9.0.255 scope global vmbr0\       valid_lft forever' ;;
    *route*)
        echo 'default via 127.9.0.96 dev vmbr0 proto kernel onlink'
        echo '127.9.0.0/24 dev vmbr0 proto kernel scope link src 127.9.0.97' ;;
esac
"""
CADDY = r"""#!/bin/sh
echo "caddy $*" >>"$HOST/state/calls"
[ ! -e "$HOST/state/invalid" ] || { echo 'it is wrong'; exit 1; }
"""
MEMBERS = '{\n"nodelist": {\n  "pve2": { "id": 2, "online": 1, "ip": "127.9.0.98"}\n  }\n}\n'


def key(secret=SECRET, deployment="home"):
    """The proxy's key under a secret, computed as the gateway has to."""
    mac = hmac.new(secret.encode(), digestmod=hashlib.sha256)
    for part in ("proxy", deployment):
        mac.update(len(part).to_bytes(8, "big") + part.encode())
    return mac.hexdigest()


@functools.lru_cache(maxsize=None)
def script_of(pairs):
    demo = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "demo"
    done = subprocess.run([demo, "proxy.sh"], env=dict(pairs), capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def script(**changes):
    """The script of a deployment with these settings; None removes one."""
    settings = {name: value for name, value in {**SETTINGS, **changes}.items() if value is not None}
    return script_of(tuple(sorted(settings.items())))


class Host:
    def __init__(self, caddy=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pve-edge-proxy-"))
        for name in ("bin", "etc/systemd/system", "etc/pve", "run", "state", "packages", "tmp"):
            (self.folder / name).mkdir(parents=True)
        programs = {"systemctl": SYSTEMCTL, "apt-get": APT_GET, "ip": IP, "id": '#!/bin/sh\necho "${HOST_UID-0}"\n'}
        programs["curl"] = '#!/bin/sh\necho "curl $*" >>"$HOST/state/calls"\necho key >"$4"\n'
        for name, text in programs.items():
            self.program(f"bin/{name}", text)
        for tool in TOOLS:
            text = f"#!/bin/sh\nprintf '%s\\n' \"$0 $*\" >>\"$HOST/state/processes\"\nexec {shutil.which(tool)} \"$@\"\n"
            self.program(f"bin/{tool}", text)
        self.program("packages/caddy", CADDY)
        self.program("packages/cloudflared", "#!/bin/sh\n")
        if caddy:
            (self.folder / "bin/caddy").symlink_to(caddy)
        self.put("etc/pve/.members", MEMBERS)
        self.put("etc/resolv.conf", "search lan\nnameserver 192.168.1.1\nnameserver fd00::53\n")

    def close(self):
        shutil.rmtree(self.folder)

    def put(self, name, text):
        (self.folder / name).write_text(text)

    def program(self, name, text):
        self.put(name, text)
        (self.folder / name).chmod(0o755)

    def read(self, name):
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def mode(self, name):
        return stat.S_IMODE((self.folder / name).stat().st_mode)

    def files(self):
        found = sorted(it.relative_to(self.folder) for it in (self.folder / "etc").rglob("*") if it.is_file())
        return [str(it) for it in found if it.name not in (".members", "resolv.conf")]

    def run(self, *words, shell=("sh",), stdin="", env=None, **changes):
        """Runs the script where there is no terminal. Returns whether it succeeds, and what it says."""
        text = script(**changes)
        # The lines that name the node's folders.
        text, count = re.subn(r"^    (etc|lists)=/.*$", lambda it: it[0].replace("=/", f"={self.folder}/"), text, flags=re.M)
        assert count == 2, count
        self.put("proxy.sh", text)
        shell = [shutil.which(shell[0]), *shell[1:]]
        env = {"PATH": str(self.folder / "bin"), "HOST": str(self.folder), "TMPDIR": str(self.folder / "tmp"), **(env or {})}
        done = subprocess.run(
            [*shell, self.folder / "proxy.sh", *words],
            env=env, input=stdin, capture_output=True, text=True, start_new_session=True,
        )
        assert not done.stdout, done.stdout
        return done.returncode == 0, done.stderr

    def calls(self):
        """Calls that change something, since they were asked for last."""
        calls = self.read("state/calls").splitlines()
        self.put("state/calls", "")
        return [it.replace(str(self.folder), "") for it in calls]
