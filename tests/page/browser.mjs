// Chromium, the pages that are visited in it, and what must be true of each of them in the end.

import { deepStrictEqual as same, ok } from "node:assert";
import { createRequire } from "node:module";
import { createServer } from "node:http";

const tools = createRequire(`${process.env.TOOLS}/`);
const { chromium } = tools("playwright-core");
const axe = tools("axe-core").source;

export const { DEMO_API: API, DEMO_KEY: KEY } = process.env;
export const HOSTILE = "<img src=x onerror=alert(1)>";

/// What answers under the name that the page probes, in the place of a gateway.
export const way = { answer: null };
const gateway = createServer((request, response) => (way.answer ? way.answer(response) : request.socket.destroy()));
await new Promise((resume) => gateway.listen(0, "127.0.0.1", resume));

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
        ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
        ...["--disable-component-update", "--disable-sync"],
        `--host-resolver-rules=MAP probe.localhost:${new URL(API).port} 127.0.0.1:${gateway.address().port}`,
    ],
});

export async function close() {
    await browser.close();
    gateway.close();
}

/// A new profile, for pages of guests.
export async function profile(flow) {
    const context = await browser.newContext();
    try {
        return await flow(context);
    } finally {
        await context.close();
    }
}

/// Visits the page in a new profile, and has a flow done there. In the end there was no report of its policy, no error, no
/// dialog of a script, and nothing of the key where it does not belong.
export async function visit(flow, { entered = true, ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB", ...options });
    const page = await context.newPage();
    const wrong = [];
    const urls = [];
    page.on("pageerror", (error) => wrong.push(error.stack));
    page.on("dialog", (dialog) => {
        wrong.push(`a dialog: ${dialog.message()}`);
        dialog.dismiss();
    });
    page.on("request", (request) => urls.push(request.url()));
    page.on("console", (it) => {
        // Chromium tells each status of 400 and more, and each fetch that another origin does not allow.
        const isOfNetwork = /^Failed to load resource|has been blocked by CORS policy/.test(it.text());
        if (it.type() === "error" && !isOfNetwork) wrong.push(it.text());
    });
    await page.exposeFunction("reported", (report) => wrong.push(report));
    await page.addInitScript(() => {
        document.addEventListener("securitypolicyviolation", (it) => window.reported(`${it.violatedDirective}: ${it.blockedURI} ${it.sample}`));
    });
    page.setDefaultTimeout(30_000);
    try {
        await page.goto(`${API}/`);
        if (entered) await enter(page);
        await flow(page, context);
        same(wrong, []);
        const kept = await page.evaluate(() => [Object.entries(localStorage), document.cookie, history.length > 0 && location.href]);
        same(kept, [[], "", `${API}/`]);
        same(await context.cookies(), []);
        ok(urls.every((it) => !it.includes(KEY)), "the key is in a URL");
    } catch (error) {
        error.stack += `\nThe page shows:\n${await page.locator("body").innerText({ timeout: 1000 }).catch(() => "nothing")}`;
        throw error;
    } finally {
        await context.close();
    }
}

export async function enter(page, { key = KEY, keep = false } = {}) {
    await page.getByLabel("API key").fill(key);
    await page.getByLabel("Keep for this tab").setChecked(keep);
    await page.getByRole("button", { name: "Open", exact: true }).click();
    await page.getByRole("heading", { name: "Sandboxes", exact: true }).waitFor();
}

/// Asks the API as any client does.
export async function ask(method, path, body, headers = {}, api = API) {
    const response = await fetch(`${api}/api/${path}`, {
        method,
        headers: { Authorization: `Bearer ${KEY}`, "Content-Type": "application/json", Prefer: "wait=20", ...headers },
        body: body && JSON.stringify(body),
    });
    const text = await response.text();
    return text ? JSON.parse(text) : null;
}

/// Makes a sandbox for a flow, and deletes it afterwards.
export async function withSandbox(body, flow) {
    const made = await ask("POST", "sandboxes", { ttlSeconds: 3600, ...body });
    same(made.state, "running", JSON.stringify(made));
    try {
        return await flow(made);
    } finally {
        await ask("DELETE", `sandboxes/${made.id}`);
    }
}

/// What axe finds. It runs where scripts of tests may do what the page's own may not.
export async function findings(page) {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    return violations.flatMap((it) => it.nodes.map((node) => `${it.id}: ${node.html} ${node.failureSummary}`));
}

/// Pictures of the list for the documents, light and dark.
export async function pictures(folder) {
    const sandboxes = [
        { name: "fix-login-redirect", metadata: { task: "1234" } },
        { name: "nightly-benchmark", preset: "4vcpu_8gb_32gb", ttlSeconds: 12_300, onExpiry: "pause" },
        { name: "review-1180" },
    ];
    const made = [];
    for (const body of sandboxes) made.push(await ask("POST", "sandboxes", { ttlSeconds: 3000, ...body }));
    await ask("POST", `sandboxes/${made[2].id}/pause`, {});
    for (const colorScheme of ["light", "dark"]) {
        await visit(async (page) => {
            await page.getByText("review-1180").waitFor();
            await page.mouse.move(0, 0);
            await page.screenshot({ path: `${folder}/page-${colorScheme}.png`, animations: "disabled" });
        }, { colorScheme, viewport: { width: 1040, height: 504 } });
    }
    for (const it of made) await ask("DELETE", `sandboxes/${it.id}`);
}
