// Everybody can use it: axe finds nothing, in light and dark, and 320 pixels are wide enough.

import { deepStrictEqual as same } from "node:assert";
import { HOSTILE, enter, findings, visit, withSandbox } from "./browser.mjs";

const LONG = `${HOSTILE}${"w".repeat(64 - HOSTILE.length)}`;
const PHONE = { width: 320, height: 640 };

export const everybodyCanUseIt = () => withSandbox({ name: LONG, metadata: { [LONG]: LONG } }, async () => {
    // axe does what the page's own script may not, so its policy is tried by the other flows.
    for (const look of [{ colorScheme: "light" }, { colorScheme: "dark", viewport: PHONE }]) {
        await visit((page) => everywhere(page, async (place) => {
            same(await findings(page), [], `${place}, ${look.colorScheme}`);
            same(await tooWide(page), [], place);
        }), { ...look, bypassCSP: true, entered: false });
    }
});

/// What is wider than it is shown.
function tooWide(page) {
    return page.evaluate(() => {
        const all = [document.documentElement, ...document.querySelectorAll("dialog[open]")];
        return all.map((it) => [it.scrollWidth, it.clientWidth]).filter(([whole, shown]) => whole > shown);
    });
}

/// Looks at each place of the page.
async function everywhere(page, see) {
    await see("key");
    await enter(page);
    await page.getByRole("button", { name: LONG, exact: true }).waitFor();
    await see("list");
    await page.getByRole("button", { name: "New sandbox" }).click();
    await page.getByText("Size and metadata").click();
    await see("creation");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: LONG, exact: true }).click();
    await page.getByLabel("Command").fill(`echo ${"x".repeat(400)}; echo wrong >&2`);
    await page.getByLabel("Command").press("Enter");
    await page.getByText("Exit code 0").waitFor();
    await see("sandbox");
    await page.getByRole("button", { name: "Delete …" }).click();
    await see("deletion");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Health" }).click();
    await page.getByText("Sandboxes can be made").waitFor();
    await page.getByRole("button", { name: "Test the way" }).click();
    await page.locator("#probed .finding").first().waitFor();
    await see("health");
}
