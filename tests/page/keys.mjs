// The key: refused, kept, forgotten.

import { deepStrictEqual as same } from "node:assert";
import { API, KEY, enter, visit } from "./browser.mjs";

const kept = (page) => page.evaluate(() => JSON.stringify(Object.entries(sessionStorage)));
const asked = (page) => page.getByLabel("API key").waitFor();

export const aWrongKeyIsToldAndForgotten = () => visit(async (page) => {
    for (const wrong of ["wrong", "schlüssel", "пароль"]) {
        await page.getByLabel("API key").fill(wrong);
        await page.getByLabel("Keep for this tab").check();
        await page.getByRole("button", { name: "Open", exact: true }).click();
        await page.getByRole("alert").getByText("The key was refused").waitFor();
        same(await page.getByLabel("API key").inputValue(), "");
        same(await page.getByLabel("API key").evaluate((it) => it === document.activeElement), true);
        same(await kept(page), "[]");
    }
    await enter(page);
    same(await page.getByRole("alert").count(), 0);
}, { entered: false });

export const aKeyIsGoneWithTheLoad = () => visit(async (page) => {
    same(await kept(page), "[]");
    await page.reload();
    await asked(page);
});

export const aKeyIsKeptForTheTabAlone = () => visit(async (page, context) => {
    await enter(page, { keep: true });
    same((await kept(page)).includes(KEY), true);
    await page.reload();
    await page.getByRole("heading", { name: "Sandboxes", exact: true }).waitFor();
    const other = await context.newPage();
    await other.goto(`${API}/`);
    await asked(other);
    await page.getByRole("button", { name: "Forget key" }).click();
    await asked(page);
    same(await kept(page), "[]");
    await page.reload();
    await asked(page);
}, { entered: false });

export const aKeyThatIsRefusedLaterIsForgotten = () => visit(async (page) => {
    await enter(page, { keep: true });
    const problem = { title: "No key", status: 401, detail: "send an API key", code: "unauthorized" };
    await page.route("**/api/sandboxes?*", (route) => route.fulfill({ status: 401, contentType: "application/problem+json", body: JSON.stringify(problem) }));
    await page.getByText("The key was refused").waitFor();
    same(await kept(page), "[]");
    same(await page.getByRole("table").count(), 0);
}, { entered: false });
