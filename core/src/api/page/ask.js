// The page for people: requests to the API, the key that they carry, and what goes wrong, in words.

const API = new URL("api/", import.meta.url);
const KEPT_AS = "pve-edge-key";

let key = kept();

/// The key that an earlier load of this tab has kept; a browser may refuse its storage.
function kept() {
    try { return sessionStorage.getItem(KEPT_AS); } catch { return null; }
}

function remember(given, keepsForTab) {
    key = given;
    if (!keepsForTab) return;
    try { sessionStorage.setItem(KEPT_AS, given); } catch { /* Then it is in memory alone. */ }
}

function forget() {
    key = null;
    try { sessionStorage.removeItem(KEPT_AS); } catch { /* Nothing was kept. */ }
}

/// What went wrong: a problem document of the API, or the same about no answer.
class Problem extends Error {
    constructor({ title, detail, status, code, errors, requestId }) {
        super(title);
        Object.assign(this, { title, status, code, requestId });
        const fields = (errors ?? []).map((it) => `${it.field}: ${it.detail}`);
        this.detail = [detail, ...fields].filter(Boolean).join("; ");
    }
}

/// A key that was refused: the form that asks for another one is told of it.
class Refused extends Problem {
    constructor() {
        super({ title: "The key was refused", detail: "It is none of this deployment's keys (any more), and is forgotten. Enter another one.", status: 401 });
    }
}

/// Sends a request. Answers that are no problem come as they are, with their JSON as `body`. `reports` is the status of a
/// failure of which the answer is a report.
async function ask(method, path, { body, prefer, headers = {}, signal, reports } = {}) {
    const response = await send(method, path, { body, prefer, headers, signal, reports });
    const text = await response.text().catch(() => "");
    return { status: response.status, body: text ? JSON.parse(text) : null };
}

/// Sends a request, whose answer may be a stream. Whatever is no answer of the API is thrown as a Problem.
async function send(method, path, { body, prefer, headers = {}, signal, reports } = {}) {
    const used = key;
    // What goes on after the key was forgotten ends here.
    if (!used) throw new DOMException("There is no key", "AbortError");
    const sent = { Accept: "application/json", Authorization: `Bearer ${used}`, ...headers };
    if (body) sent["Content-Type"] = "application/json";
    if (prefer) sent.Prefer = prefer;
    const request = { method, headers: sent, body: body && JSON.stringify(body), signal, cache: "no-store", credentials: "omit" };
    let response;
    try {
        response = await fetch(new URL(path, API), request);
    } catch (error) {
        if (error.name === "AbortError") throw error;
        if (error instanceof TypeError && !/^[\x21-\x7e]*$/.test(used ?? "")) throw new Refused();
        throw new Problem({ title: "No answer", detail: "The API was not reached: the network, or the deployment itself. Nothing is known of what was asked." });
    }
    const kind = response.headers.get("content-type")?.split(";")[0];
    // What is between may fail with JSON of its own.
    const isAnswer = kind === "application/json" && (response.ok || response.status === reports);
    if (isAnswer || kind === "text/event-stream" || response.status === 204) return response;
    const said = kind === "application/problem+json" ? await response.json().catch(() => ({})) : {};
    if (response.status === 401 && said.code) {
        const problem = new Refused();
        // A request that an earlier key was sent with tells nothing of this one.
        if (used === key) {
            forget();
            showEnter(problem);
        }
        throw problem;
    }
    throw new Problem({
        title: `${response.status} ${response.statusText}`,
        detail: "This is no answer of the API: something before it has answered.",
        status: response.status,
        ...said,
    });
}

/// Events of a stream, as `{event, id, data}`.
async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const blocks = (text + value).split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
            const found = {};
            for (const line of block.split("\n")) {
                const [, name, content] = /^(event|id|data): ?(.*)$/.exec(line) ?? [];
                if (name) found[name] = content;
            }
            if (found.data) yield { ...found, data: JSON.parse(found.data) };
        }
    }
}

/// Something that nobody else draws; `crypto.randomUUID` is not there over plain HTTP.
function drawn() {
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), (it) => it.toString(16).padStart(2, "0")).join("");
}
