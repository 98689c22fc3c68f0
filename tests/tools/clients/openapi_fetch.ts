// The API by npm's openapi-fetch with types that openapi-typescript has generated, unmodified.

import { deepStrictEqual as same, ok } from "node:assert";
import createClient from "openapi-fetch";
import type { paths } from "./schema";

const { DEMO_API: baseUrl, DEMO_KEY: key } = process.env;
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });
const tags = { client: "openapi-fetch", task: "a=b & c" };

async function listed(...metadata: string[]): Promise<string[]> {
    const { data } = await api.GET("/api/sandboxes", { params: { query: { metadata, state: "running" } } });
    ok(data);
    return data.items.map((it) => it.id);
}

const made = await api.POST("/api/sandboxes", {
    params: { header: { "Idempotency-Key": "openapi-fetch", Prefer: "wait=20" } },
    body: { name: "made", metadata: tags, ttlSeconds: 600, onExpiry: "stop" },
});
const sandbox = made.data;
ok(sandbox, JSON.stringify(made.error));
same([made.response.status, sandbox.name, sandbox.metadata, sandbox.onExpiry], [201, "made", tags, "stop"]);

same(await listed(...Object.entries(tags).map(([name, value]) => `${name}=${value}`)), [sandbox.id]);
same(await listed("client=openapi-fetch", "task=another"), []);

const params = { path: { id: sandbox.id } };
const argv = ["printf", "%s|%s|%s\n", "two words", "it's", "$HOME"];
const { data: outcome } = await api.POST("/api/sandboxes/{id}/exec", { params, body: { argv } });
// A text is the stream of events, which nobody has asked for here.
ok(typeof outcome === "object");
same([outcome.exitCode, outcome.stdout, outcome.timedOut], [0, "two words|it's|$HOME\n", false]);

const deleted = await api.DELETE("/api/sandboxes/{id}", { params: { ...params, header: { Prefer: "wait=20" } } });
same(deleted.response.status, 204);
const gone = await api.GET("/api/sandboxes/{id}", { params });
same([gone.error?.status, gone.error?.code], [404, "not-found"]);
