"""The API by a client that PyPI's openapi-python-client has generated, unmodified."""

import os
from http import HTTPStatus

from pve_edge.api.sandboxes import create_sandbox, delete_sandbox, exec_sandbox, get_sandbox, list_sandboxes
from pve_edge.client import AuthenticatedClient
from pve_edge.models import (
    Code, CreateRequest, ExecBody, Metadata, OnExpiry, Outcome, Page, Problem, Sandbox, State,
)

client = AuthenticatedClient(base_url=os.environ["DEMO_API"], token=os.environ["DEMO_KEY"])
tags = {"client": "openapi-python-client", "task": "a=b & c"}


def metadata() -> Metadata:
    given = Metadata()
    given.additional_properties = dict(tags)
    return given


def listed(*entries: str) -> list[str]:
    page = list_sandboxes.sync(client=client, metadata=list(entries), state=State.RUNNING)
    assert isinstance(page, Page), page
    return [it.id for it in page.items]


made = create_sandbox.sync_detailed(
    client=client,
    body=CreateRequest(name="made", metadata=metadata(), ttl_seconds=600, on_expiry=OnExpiry.STOP),
    idempotency_key="openapi-python-client",
    prefer="wait=20",
)
sandbox = made.parsed
assert made.status_code == HTTPStatus.CREATED and isinstance(sandbox, Sandbox), made
assert (sandbox.name, sandbox.metadata.to_dict(), sandbox.on_expiry) == ("made", tags, OnExpiry.STOP), sandbox

assert listed(*(f"{key}={value}" for key, value in tags.items())) == [sandbox.id]
assert listed("client=openapi-python-client", "task=another") == []

argv = ["printf", "%s|%s|%s\n", "two words", "it's", "$HOME"]
outcome = exec_sandbox.sync(sandbox.id, client=client, body=ExecBody(argv=argv))
assert isinstance(outcome, Outcome), outcome
assert (outcome.exit_code, outcome.stdout, outcome.timed_out) == (0, "two words|it's|$HOME\n", False), outcome

deleted = delete_sandbox.sync_detailed(sandbox.id, client=client, prefer="wait=20")
assert deleted.status_code == HTTPStatus.NO_CONTENT, deleted
gone = get_sandbox.sync(sandbox.id, client=client)
assert isinstance(gone, Problem) and (gone.status, gone.code) == (404, Code.NOT_FOUND), gone
