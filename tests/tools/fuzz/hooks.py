"""What the fuzzer does beyond the document: ids of live sandboxes, harmless commands and paths, and which 5xx are legal."""

import random
import re

import schemathesis
from client import ask

ID = re.compile(
    r"(pvelxc|pvevm)-[1-9][0-9]{2,8}-[a-z2-7]{16}(-[a-z0-9][a-z0-9-]{0,23})?|(morphvm|snapshot)_[0-9A-Za-z_-]{1,64}"
)
# So many sandboxes are kept for the operations that need one.
LIVE = 4
# No defects: others are at work on the template or with the same Idempotency-Key, or have stopped the
# sandbox in this moment.
LEGAL = {"template-busy", "no-free-vmid"}
LEGAL_IN_A_GUEST = {"exec-cut", "exec-unreachable"}
IN_A_GUEST = re.compile(r"/\{id\}/(exec|processes|files|metrics|terminal)")

dice = random.Random(7)
live = {"age": 0, "sandboxes": [], "snapshots": [], "templates": []}
BASE = {"appliance": "debian-13-standard", "preset": "1vcpu_1gb_8gb", "hookscript": "local:snippets/hook.sh"}


def live_id(kind):
    """Of what exists, or did a moment ago; some are still coming up, stopped or paused, or wait for root."""
    if live["age"] % 8 == 0:
        items = ask("GET", "/api/sandboxes").get("items", [])
        live["sandboxes"] = [it["id"] for it in items]
        live["snapshots"] = [it["snapshotId"] for it in ask("GET", "/api/snapshots").get("items", [])]
        if len(items) < LIVE:
            ask("POST", "/api/sandboxes", {"ttlSeconds": None})
        live["templates"] = [it for it in live["templates"] if ask("GET", f"/api/templates/{it}")]
        if len(live["templates"]) < LIVE:
            live["templates"] += [it for it in [ask("POST", "/api/templates", BASE).get("id")] if it]
    live["age"] += 1
    return dice.choice(live[kind]) if live[kind] else None


def harmless(body):
    """The same request, with a command that does nothing."""
    if not isinstance(body, dict):
        # No object, no command; and raw text could be one.
        return body if isinstance(body, (list, int, float, bool, type(None))) else b"{"
    body = dict(body)
    if isinstance(body.get("command"), str) and body["command"].strip():
        body["command"] = "\0" if "\0" in body["command"] else "true"
    if isinstance(body.get("argv"), list):
        body["argv"] = ["true" if isinstance(it, str) and it and "\0" not in it else it for it in body["argv"]]
    return body


def inside(path):
    """The same path, below the home of the sandbox, which is a scratch folder: all else is this machine's."""
    if not isinstance(path, str) or not path:
        return path
    return "/".join(it for it in path.split("/") if it != "..").lstrip("/") or "file"


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.operation.path
    if path.endswith(("/exec", "/processes")):
        case.body = harmless(case.body)
    if "/files" in path:
        if isinstance(case.query, dict) and "path" in case.query:
            case.query["path"] = inside(case.query["path"])
        if isinstance(case.body, dict):
            case.body = {name: inside(it) if name in ("path", "from", "to") else it for name, it in case.body.items()}
    # An answer is to be had at once, and no creation may use up the templates.
    headers = case.headers
    if headers is not None and re.fullmatch(r"(wait=\d+)?", headers.get("Prefer", "")):
        headers["Prefer"] = "wait=1"
    rarely = case.method == "DELETE" and dice.random() < 0.8
    parameters = case.path_parameters
    if parameters and ID.fullmatch(str(parameters.get("id", ""))) and not rarely and dice.random() < 0.9:
        kind = path.split("/")[2]
        parameters["id"] = live_id(kind) or parameters["id"]


@schemathesis.check
def only_legal_faults(context, response, case):
    if response.status_code < 500:
        return
    code = response.json().get("code")
    if code in LEGAL_IN_A_GUEST and IN_A_GUEST.search(case.operation.path):
        return
    # The demo has no account at Cloudflare.
    if code == "misconfigured" and case.operation.path == "/api/tunnel":
        return
    # The other fuzzer has deleted the sandbox while PVE was at it.
    if code == "task-failed" and "CT is gone" in response.json()["detail"]:
        return
    if code not in LEGAL or "retry-after" not in response.headers:
        raise AssertionError(f"{response.status_code} {code}: a defect, or Retry-After is missing")
