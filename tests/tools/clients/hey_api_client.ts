// The API by a client that npm's @hey-api/openapi-ts has generated, unmodified.

import { deepStrictEqual as same, ok } from "node:assert";
import { createSandbox, deleteSandbox, execSandbox, getSandbox, listSandboxes } from "./hey_api";
import { client } from "./hey_api/client.gen";

const { DEMO_API: baseUrl, DEMO_KEY: auth } = process.env;
client.setConfig({ baseUrl, auth });
const tags = { client: "hey-api", task: "a=b & c" };

async function listed(...metadata: string[]): Promise<string[]> {
    const { data } = await listSandboxes({ query: { metadata, state: "running" } });
    ok(data);
    return data.items.map((it) => it.id);
}

const made = await createSandbox({
    headers: { "Idempotency-Key": "hey-api", Prefer: "wait=20" },
    body: { name: "made", metadata: tags, ttlSeconds: 600, onExpiry: "stop" },
});
const sandbox = made.data;
ok(sandbox, JSON.stringify(made.error));
same([made.response?.status, sandbox.name, sandbox.metadata, sandbox.onExpiry], [201, "made", tags, "stop"]);

same(await listed(...Object.entries(tags).map(([name, value]) => `${name}=${value}`)), [sandbox.id]);
same(await listed("client=hey-api", "task=another"), []);

const path = { id: sandbox.id };
const argv = ["printf", "%s|%s|%s\n", "two words", "it's", "$HOME"];
const { data: outcome } = await execSandbox({ path, body: { argv } });
same([outcome?.exitCode, outcome?.stdout, outcome?.timedOut], [0, "two words|it's|$HOME\n", false]);

const deleted = await deleteSandbox({ path, headers: { Prefer: "wait=20" } });
same(deleted.response?.status, 204);
const gone = await getSandbox({ path });
same([gone.error?.status, gone.error?.code], [404, "not-found"]);
