// What goes wrong is told with what to do; health, and the way to sandboxes.

import { deepStrictEqual as same, ok } from "node:assert";
import { visit, way, withSandbox } from "./browser.mjs";

const problem = (status, title, detail) => ({
    status,
    contentType: "application/problem+json",
    body: JSON.stringify({ type: "urn:pve-edge:problem:x", title, status, detail, code: "x", retryable: true, requestId: "mfrggzdfmztwq2lk" }),
});

export const problemsAreTold = () => visit(async (page) => {
    const keys = [];
    await page.route("**/api/sandboxes", (route) => {
        keys.push(route.request().headers()["idempotency-key"]);
        return route.fulfill(problem(503, "The template is being cloned", "<b>ask</b> again"));
    });
    await page.getByRole("button", { name: "New sandbox" }).click();
    await page.locator("#source option").first().waitFor({ state: "attached" });
    for (const name of ["a", "a", "b"]) {
        await page.getByLabel("Name optional").fill(name);
        await page.getByRole("button", { name: "Create", exact: true }).click();
        await page.getByRole("alert").getByText("<b>ask</b> again").waitFor();
        await page.waitForFunction(() => document.querySelector("#create-form [type=submit]").ariaDisabled === "false");
    }
    // The same request again is the same sandbox; another one is another.
    same([keys[0] === keys[1], keys[1] === keys[2], keys.length], [true, false, 3]);
    await page.keyboard.press("Escape");
    const again = () => page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
    await page.route("**/api/sandboxes?*", (route) => route.abort());
    await again();
    await page.getByRole("alert").getByText("No answer").waitFor();
    await page.unroute("**/api/sandboxes?*");
    await page.route("**/api/sandboxes?*", (route) => route.fulfill({ status: 502, contentType: "text/html", body: "<h1>Bad gateway</h1>" }));
    await again();
    await page.getByRole("alert").getByText("something before it has answered").waitFor();
    await page.unroute("**/api/sandboxes?*");
    await again();
    await page.getByRole("alert").waitFor({ state: "hidden" });
});

/// As Cloudflare's edge, or AWS, fails: with JSON, which is none of the API's.
export const whatIsBetweenIsNoAnswer = () => withSandbox({ name: "between" }, ({ id }) => visit(async (page) => {
    const between = (status) => ({ status, contentType: "application/json", body: '{"error_code": 1101, "message": "x"}' });
    const answered = () => page.getByText("something before it has answered").first();
    await page.getByRole("button", { name: "between", exact: true }).click();
    const shown = page.getByRole("dialog", { name: "between" });
    for (const status of [500, 404, 401, 200]) {
        await page.route(`**/api/sandboxes/${id}`, (route) => (route.request().method() === "DELETE" ? route.fulfill(between(status)) : route.continue()));
        await shown.getByRole("button", { name: "Delete …" }).click();
        const told = page.waitForFunction(() => document.querySelector("#notices").textContent.match(/has answered|still deletes it/));
        await page.getByRole("button", { name: "Delete between" }).click();
        await told;
        await shown.getByRole("button", { name: "Delete …" }).waitFor();
        await page.unroute(`**/api/sandboxes/${id}`);
        await page.evaluate(() => document.querySelector("#notices").replaceChildren());
    }
    await shown.getByRole("button", { name: "Close", exact: true }).click();
    const keys = [];
    await page.route("**/api/sandboxes", (route) => {
        keys.push(route.request().headers()["idempotency-key"]);
        return route.fulfill(between(503));
    });
    await page.getByRole("button", { name: "New sandbox" }).click();
    await page.locator("#source option").first().waitFor({ state: "attached" });
    for (let time = 0; time < 2; time += 1) {
        await page.getByRole("button", { name: "Create", exact: true }).click();
        await answered().waitFor();
        await page.waitForFunction(() => document.querySelector("#create-form [type=submit]").ariaDisabled === "false");
    }
    // It may have been made: the same request again is the same sandbox.
    same([keys.length, keys[0] === keys[1]], [2, true]);
}));

export const healthSaysWhatToFix = () => visit(async (page) => {
    await page.getByRole("button", { name: "Health" }).click();
    await page.getByText("Sandboxes can be made").waitFor();
    await page.getByText("Nodes: 1").click();
    await page.getByText(/online, .* free/).waitFor();
    const body = { provider: "pve-lxc", reachable: false, status: "unhealthy", reasons: [{ code: "pve-unreachable", detail: "<i>is</i> PVE up?" }] };
    await page.route("**/api/health/sandbox", (route) => route.fulfill({ status: 503, contentType: "application/json", body: JSON.stringify(body) }));
    await page.getByRole("button", { name: "Check again" }).click();
    await page.getByText("Sandboxes cannot be made").waitFor();
    await page.getByText("<i>is</i> PVE up?").waitFor();
});

export const theWayIsTested = () => visit(async (page) => {
    await page.getByRole("button", { name: "Health" }).click();
    const shared = { "Access-Control-Allow-Origin": "*", "Content-Type": "application/problem+json" };
    const rows = [
        [null, "Nothing answers there that this browser trusts"],
        [(response) => response.end("a page of somebody else's"), "It is not the gateway that answers"],
        [(response) => response.writeHead(200, shared).end("{}"), "The gateway of this deployment has answered"],
        [(response) => response.writeHead(530, shared).end('{"detail": "the <b>tunnel</b> is down"}'), "the <b>tunnel</b> is down"],
    ];
    for (const [answer, text] of rows) {
        way.answer = answer;
        await page.getByRole("button", { name: "Test the way" }).click();
        await page.locator("#probed").getByText(text).waitFor();
    }
    way.answer = null;
    const policy = (await page.request.get(page.url(), { headers: { Accept: "text/html" } })).headers()["content-security-policy"];
    ok(policy.includes(`connect-src 'self' http://probe.localhost:${new URL(page.url()).port};`), policy);
});
