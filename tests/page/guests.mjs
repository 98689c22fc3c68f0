// Pages of guests, which are hostile: what a browser that was let in to several of them does for one in the name of another.

import { deepStrictEqual as same, ok } from "node:assert";
import { ask, profile, withSandbox } from "./browser.mjs";

const PORT = 5173;

/// A sandbox that serves a page, and a link to it.
const serving = (word, flow) => withSandbox({}, async ({ id }) => {
    const command = `mkdir served; echo '<body>${word}' >served/index.html; nohup python3 -m http.server ${PORT} --bind $SANDBOX_IP --directory served >log 2>&1 & sleep 1`;
    await ask("POST", `sandboxes/${id}/exec`, { command });
    const { url } = await ask("POST", `sandboxes/${id}/services/preview/link`, {});
    /// What its server was asked for so far.
    const asked = async () => {
        const { stdout } = await ask("POST", `sandboxes/${id}/exec`, { command: "grep -c HTTP log || true" });
        return Number(stdout);
    };
    return flow({ id, url, asked });
});

export const aLinkLetsABrowserInAndLeavesNoToken = () => serving("own page", ({ url }) => profile(async (context) => {
    const page = await context.newPage();
    const entered = await page.goto(url);
    same([entered.status(), page.url()], [200, url.split("?")[0]]);
    same(await page.textContent("body"), "own page\n");
    same(await page.evaluate(() => [document.cookie, document.referrer]), ["", ""]);
    const [cookie, ...others] = await context.cookies();
    same([cookie.name, cookie.httpOnly, cookie.secure, cookie.path, others.length], ["__Host-pve_edge", true, true, "/", 0]);
    // Where nobody was let in, nothing is shown and nothing is told.
    const stranger = await profile(async (other) => (await (await other.newPage()).goto(page.url())).status());
    same(stranger, 401);
}));

/// Everything that a sibling's page can have the visitor's browser do, while the visitor has cookies of both.
export const aSiblingsPageActsInNoOther = () => serving("hers", (hers) => serving("his", (his) => profile(async (context) => {
    const page = await context.newPage();
    await page.goto(hers.url);
    const target = page.url();
    const other = await context.newPage();
    await other.goto(his.url);
    const before = await hers.asked();
    const told = await other.evaluate(async (target) => {
        const read = (options) => fetch(target, { credentials: "include", ...options }).then((it) => it.status, () => "blocked");
        const socket = () => new Promise((done) => {
            const it = new WebSocket(target.replace("http", "ws"));
            it.onopen = () => done("open");
            it.onerror = () => done("refused");
        });
        const frame = () => new Promise((done) => {
            const it = document.createElement("iframe");
            it.src = target;
            it.onload = () => done(it.contentDocument ? "shown" : "another origin");
            document.body.append(it);
        });
        const image = () => new Promise((done) => {
            const it = new Image();
            it.onload = () => done("shown");
            it.onerror = () => done("broken");
            it.src = `${target}picture`;
        });
        document.cookie = "__Host-pve_edge=planted; Domain=localhost; Secure; Path=/";
        await read({ method: "POST", mode: "no-cors", body: "x" });
        return {
            fetch: await read({}),
            put: await read({ method: "PUT", headers: { "X-A": "b" } }),
            socket: await socket(),
            frame: await frame(),
            image: await image(),
        };
    }, target);
    same(told, { fetch: "blocked", put: "blocked", socket: "refused", frame: "another origin", image: "broken" });
    // The frame is a navigation, which is her page's to refuse: it came, and the browser did not show it.
    ok((await hers.asked()) - before <= 1, "her server was asked by his page");
    const shown = other.frames().map((it) => it.url()).filter((it) => it !== other.url());
    same(shown, ["chrome-error://chromewebdata/"]);
    // A form that his page sends in a window of its own is not hers either.
    const [opened] = await Promise.all([
        context.waitForEvent("page"),
        other.evaluate((target) => {
            const form = Object.assign(document.createElement("form"), { method: "POST", action: target, target: "_blank" });
            document.body.append(form);
            form.submit();
        }, target),
    ]);
    await opened.waitForLoadState();
    ok(!(await opened.textContent("body")).includes("hers"), "his form was answered by her server");
    // She is still let in.
    same((await page.reload()).status(), 200);
})));

/// A browser that has been with one sandbox comes to another that has its VMID now. What the first one's pages have left
/// there, a service worker, a cache, storage and cookies, is in an origin that the second one does not have.
export const anEarlierTenantIsForgotten = () => profile(async (context) => {
    const asks = (method, path, body) => ask(method, path, body, {}, process.env.SMALL_API);
    const thief = "self.addEventListener('fetch', (it) => it.respondWith(new Response('stolen')));";
    const make = async (word) => {
        const { id } = await asks("POST", "sandboxes", {});
        const command = `mkdir served; cd served; echo '<body>${word}' >index.html; echo "${thief}" >worker.js; nohup python3 -m http.server ${PORT} --bind $SANDBOX_IP >../log 2>&1 & sleep 1`;
        await asks("POST", `sandboxes/${id}/exec`, { command });
        const { url } = await asks("POST", `sandboxes/${id}/services/preview/link`, {});
        return { id, url, vmid: id.split("-")[1] };
    };
    const end = ({ id }) => asks("DELETE", `sandboxes/${id}`);
    const hers = await make("hers");
    const page = await context.newPage();
    await page.goto(hers.url);
    await page.evaluate(async () => {
        await navigator.serviceWorker.register("/worker.js");
        await navigator.serviceWorker.ready;
        await (await caches.open("hers")).put("/", new Response("stolen"));
        localStorage.setItem("hers", "1");
        document.cookie = "hers=1; Path=/; Max-Age=10000";
        document.cookie = `hers=1; Path=/; Max-Age=10000; Domain=${location.hostname.split(".").slice(1).join(".")}`;
    });
    await page.reload();
    same(await page.textContent("body"), "stolen");
    await end(hers);
    let his = await make("his");
    for (let tries = 0; his.vmid !== hers.vmid && tries < 10; tries += 1) {
        await end(his);
        his = await make("his");
    }
    same(his.vmid, hers.vmid);
    // By its link, and by the link under the short name, that both of them have had.
    const short = his.url.replace(/(vm-\d+)-[a-z0-9]+/, "$1");
    for (const url of [his.url, short]) {
        const shown = await (await page.goto(url)).text();
        same([shown, new URL(page.url()).host], ["<body>his\n", new URL(his.url).host]);
    }
    const left = await page.evaluate(async () => [
        (await navigator.serviceWorker.getRegistrations()).length, await caches.keys(), localStorage.length, document.cookie,
    ]);
    same(left, [0, [], 0, ""]);
    await end(his);
});
