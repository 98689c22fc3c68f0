// The list is asked for while somebody looks at it, and tells what others do.

import { deepStrictEqual as same, ok } from "node:assert";
import { ask, visit, withSandbox } from "./browser.mjs";

const PERIOD = 5000;

export const nobodyAsksWhileThePageIsHidden = () => visit(async (page) => {
    let count = 0;
    page.on("request", (it) => { count += it.url().includes("/api/sandboxes?") ? 1 : 0; });
    const hide = (hidden) => page.evaluate((it) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => it });
        document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    await page.getByText(/running|None at the moment/).first().waitFor();
    await hide(true);
    const before = count;
    await page.waitForTimeout(PERIOD * 1.3);
    same(count, before);
    // At once, and then as before.
    const asked = page.waitForRequest("**/api/sandboxes?*");
    await hide(false);
    await asked;
    await page.waitForRequest("**/api/sandboxes?*", { timeout: PERIOD * 4 });
});

export const whatOthersDoIsTold = () => withSandbox({ name: "of others" }, (made) => visit(async (page) => {
    const row = page.getByRole("row").filter({ hasText: "of others" });
    await row.getByText("running").waitFor();
    // What has the focus keeps it, whatever becomes of the rest.
    await row.getByRole("button", { name: "Extend" }).focus();
    await ask("POST", `sandboxes/${made.id}/stop`, {});
    await row.getByText("stopped").waitFor();
    await page.locator("#notices").getByText("of others is stopped").waitFor();
    ok(await row.getByRole("button", { name: "Extend" }).evaluate((it) => it === document.activeElement));
    await ask("DELETE", `sandboxes/${made.id}`);
    await row.waitFor({ state: "detached" });
}));
