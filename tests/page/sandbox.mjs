// A sandbox's whole life by the page, with a mouse and with keys alone.

import { deepStrictEqual as same, ok } from "node:assert";
import { HOSTILE, ask, enter, visit, withSandbox } from "./browser.mjs";

const dialog = (page, name) => page.getByRole("dialog", { name });
/// A message; other flows' sandboxes are in the same list, and messages tell of them, too.
const said = (page, text) => page.locator("#notices").getByText(text).first().waitFor();

export const fromCreationToDeletion = () => visit(async (page) => {
    await page.getByRole("button", { name: "New sandbox" }).click();
    const creation = dialog(page, "New sandbox");
    await creation.getByLabel("Name optional").fill(HOSTILE);
    await creation.getByLabel("For how long").selectOption("15 minutes");
    await creation.getByText("Size and metadata").click();
    await creation.getByLabel("Metadata").fill(`first=${HOSTILE}\n<b>second</b>=x=y`);
    await creation.getByRole("button", { name: "Create", exact: true }).click();
    await creation.getByRole("button", { name: "Show it" }).waitFor({ timeout: 60_000 });
    const steps = await creation.getByRole("listitem").allTextContents();
    ok(steps.length >= 2 && steps[0].startsWith("claimed as pve") && steps.at(-1) === "running", steps.join("\n"));
    const made = await ask("GET", `sandboxes/${steps[0].replace("claimed as ", "")}`);
    same(made.metadata, { first: HOSTILE, "<b>second</b>": "x=y" });

    await creation.getByRole("button", { name: "Show it" }).click();
    const shown = dialog(page, HOSTILE);
    for (const text of [made.id, HOSTILE, "<b>second</b>", "x=y"]) await shown.getByText(text, { exact: true }).first().waitFor();
    await commands(page, shown);
    await power(page, shown, made);
    await snapshot(page, shown);
    await deletion(page, shown, made);
});

/// Output as it comes, as text, whatever is in it.
async function commands(page, shown) {
    const line = shown.getByLabel("Command");
    const output = shown.getByLabel("Output");
    await line.fill(`echo '${HOSTILE}'; echo '<script>alert(2)</script>' >&2; printf '\\033[31m\\001'; sleep 2; echo end; exit 3`);
    await line.press("Enter");
    await output.getByText(HOSTILE).waitFor();
    ok(!(await output.textContent()).includes("end"), "it is told only at the end");
    await shown.getByText("Exit code 3").waitFor();
    const text = await output.textContent();
    ok(text.includes("<script>alert(2)</script>") && text.trimEnd().endsWith("end"), text);
    same(await page.locator("img, dialog script").count(), 0);

    await line.fill("echo begun; sleep 300; echo never");
    await line.press("Enter");
    await output.getByText("begun").waitFor();
    await shown.getByRole("button", { name: "Stop" }).first().click();
    await shown.getByText("Stopped").waitFor();
    await line.fill("for i in $(seq 30000); do echo line $i of many; done");
    await line.press("Enter");
    await shown.getByText("Exit code 0").waitFor();
    const length = (await output.textContent()).length;
    ok(length > 100_000 && length <= 500_000, `${length} characters are shown`);
}

async function power(page, shown, { id, expiresAt }) {
    await shown.getByLabel("From now on").selectOption("4 hours");
    await shown.getByRole("button", { name: "Set" }).click();
    await said(page, `${HOSTILE}: 4 hours`);
    const later = await ask("GET", `sandboxes/${id}`);
    ok(new Date(later.expiresAt) - new Date(expiresAt) > 3 * 3_600_000, later.expiresAt);
    await shown.getByRole("button", { name: "Pause" }).click();
    await said(page, `${HOSTILE} is paused. Its files are kept`);
    same((await ask("GET", `sandboxes/${id}`)).state, "paused");
    await shown.getByRole("button", { name: "Resume" }).click();
    await said(page, `${HOSTILE} is running`);
    same((await ask("GET", `sandboxes/${id}`)).state, "running");
    // The list may tell that it has stopped before the answer does.
    await page.route(`**/sandboxes/${id}/stop`, async (route) => {
        const response = await route.fetch();
        await shown.getByRole("button", { name: "Start", disabled: true }).waitFor();
        await route.fulfill({ response });
    });
    await shown.getByRole("button", { name: "Stop" }).click();
    await said(page, `${HOSTILE} is stopped`);
    await shown.getByRole("button", { name: "Start" }).click();
    await shown.getByRole("button", { name: "Reboot" }).waitFor();
}

async function snapshot(page, shown) {
    await shown.getByLabel("Name of the snapshot").fill("of <i>it</i>");
    await shown.getByRole("button", { name: "Take a snapshot" }).click();
    await said(page, "Snapshot of <i>it</i> is ready");
    await shown.getByRole("button", { name: "Close", exact: true }).click();
    await page.getByRole("button", { name: "New sandbox" }).click();
    const sources = dialog(page, "New sandbox").getByLabel("Made from");
    await sources.locator("option", { hasText: "of <i>it</i>" }).waitFor({ state: "attached" });
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: HOSTILE, exact: true }).click();
}

async function deletion(page, shown, { id }) {
    await shown.getByRole("button", { name: "Delete …" }).click();
    const asks = dialog(page, `Delete ${HOSTILE}?`);
    await asks.getByText(id).waitFor();
    await asks.getByRole("button", { name: "Cancel" }).click();
    same((await ask("GET", `sandboxes/${id}`)).id, id);
    await shown.getByRole("button", { name: "Delete …" }).click();
    await asks.getByRole("button", { name: `Delete ${HOSTILE}` }).click();
    await said(page, `${HOSTILE} was deleted`);
    await shown.waitFor({ state: "hidden" });
    same((await ask("GET", `sandboxes/${id}`)).status, 404);
    same(await page.getByRole("button", { name: HOSTILE, exact: true }).count(), 0);
    for (const it of (await ask("GET", "snapshots")).items.filter((it) => it.team)) await ask("DELETE", `snapshots/${it.snapshotId}`);
}

/// Goes on by Tab to what has a name, as somebody without a mouse does.
async function tabTo(page, name) {
    for (let turn = 0; turn < 60; turn += 1) {
        const at = await page.evaluate(() => [document.activeElement.textContent, document.activeElement.ariaLabel, document.activeElement.id]);
        if (at.some((it) => it?.trim() === name)) return;
        await page.keyboard.press("Tab");
    }
    throw new Error(`no key leads to ${name}`);
}

export const withKeysAlone = () => visit(async (page) => {
    await page.keyboard.type(process.env.DEMO_KEY);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Sandboxes", exact: true }).waitFor();
    await tabTo(page, "New sandbox");
    await page.keyboard.press("Enter");
    await dialog(page, "New sandbox").waitFor();
    await page.locator("#source option").first().waitFor({ state: "attached" });
    await tabTo(page, "name");
    await page.keyboard.type("by keys");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Show it" }).waitFor({ timeout: 60_000 });
    await page.keyboard.press("Escape");
    await tabTo(page, "by keys");
    await page.keyboard.press("Enter");
    await dialog(page, "by keys").waitFor();
    await tabTo(page, "Delete …");
    await page.keyboard.press("Enter");
    await dialog(page, "Delete by keys?").waitFor();
    same(await page.evaluate(() => document.activeElement.textContent), "Cancel");
    await tabTo(page, "Delete by keys");
    await page.keyboard.press("Enter");
    await said(page, "by keys was deleted");
    same(await page.evaluate(() => document.activeElement.id), "show-create");
}, { entered: false });

/// A tab that is opened knows nothing of this one.
export const servicesAreOpened = () => withSandbox({ name: "open me" }, (made) => visit(async (page, context) => {
    const path = `**/api/sandboxes/${made.id}/services/preview/link`;
    const answered = async (status, body) => {
        await page.unroute(path);
        const contentType = status === 200 ? "application/json" : "application/problem+json";
        await page.route(path, (route) => route.fulfill({ status, contentType, body: JSON.stringify(body) }));
        const opened = context.waitForEvent("page", { timeout: 5000 }).catch(() => null);
        await page.getByRole("button", { name: "Open Preview of open me, port 5173" }).click();
        return opened;
    };
    await page.route("**/api/config/sandbox", async (route) => {
        const response = await route.fetch();
        const body = await response.json();
        body.capabilities.gateway = true;
        await route.fulfill({ response, json: body });
    });
    await page.reload();
    await enter(page);
    const link = await answered(200, { url: `${process.env.DEMO_API}/api/health?opened`, expiresAt: new Date() });
    await link.waitForURL("**?opened");
    same(await link.evaluate(() => [window.opener, document.referrer]), [null, ""]);
    const plain = await answered(501, { title: "No gateway", status: 501, detail: "there is none", code: "gateway-unsupported" });
    same(new URL(plain.url()).host.startsWith(`port-5173-vm-${made.vmid}.`), true);
    same(await answered(404, { title: "Not found", status: 404, detail: "there is nothing at it", code: "not-found" }), null);
    await said(page, "preview cannot be opened");
    same(await answered(200, { url: "javascript:alert(3)" }), null);
    await said(page, "It is no URL of the web");
}));
