// Runs the flows, each in a profile of its own: all, or those whose names have a word.

import { close, pictures } from "./browser.mjs";
import * as access from "./access.mjs";
import * as guests from "./guests.mjs";
import * as keys from "./keys.mjs";
import * as problems from "./problems.mjs";
import * as sandbox from "./sandbox.mjs";
import * as watching from "./watching.mjs";

const wanted = process.argv[2] ?? "";
let failed = 0;

/// Runs the flows of a file, while those of the others run beside it.
async function run(file) {
    for (const [name, flow] of Object.entries(file).filter(([name]) => name.includes(wanted))) await tried(name, flow);
}

async function tried(name, flow) {
    const from = Date.now();
    try {
        await flow();
        console.log(`${name}: ${Date.now() - from} ms`);
    } catch (error) {
        failed += 1;
        console.log(`${name}: FAILED\n${error.stack}`);
    }
}

await Promise.all([keys, sandbox, problems, watching, access, guests].map(run));
if (process.env.PICTURES) await pictures(process.env.PICTURES);
await close();
process.exitCode = failed ? 1 : 0;
