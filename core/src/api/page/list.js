// The list of sandboxes, which is asked for each 5 seconds while somebody looks at it.

const PERIOD_MS = 5000;
const PAGE = 100;

let config = null;
/// The sandboxes that the last listing has told, or an answer about one of them since.
let sandboxes = new Map();
let limit = PAGE;
/// Grows with each answer that is newer than a listing which is under way.
let changes = 0;
let timer = null;
let listing = null;

/// What is being done to a sandbox from here, by its id.
const working = new Map();
const rows = new Map();

function poll() {
    clearTimeout(timer);
    if (!key || document.hidden) return;
    timer = setTimeout(refresh, PERIOD_MS);
}

/// Asks for the list once; whoever asks meanwhile waits for the same answer.
function refresh() {
    clearTimeout(timer);
    listing ??= list().finally(() => {
        listing = null;
        poll();
    });
    return listing;
}

async function list() {
    const before = changes;
    try {
        const { body } = await ask("GET", `sandboxes?limit=${limit}`);
        tell(at("list-wrong"), null);
        if (before !== changes) return;
        const told = new Map(body.items.map((it) => [it.id, completed(it)]));
        for (const [id, it] of told) announce(sandboxes.get(id), it);
        sandboxes = told;
        at("more").hidden = !body.nextCursor;
        render();
    } catch (error) {
        if (key) tell(at("list-wrong"), error);
    }
}

/// What a listing has no room for is known of the sandbox itself, once that was read.
function completed(it) {
    const before = sandboxes.get(it.id);
    if (!before) return it;
    const { name, metadata } = it.metadataIncomplete ? before : it;
    const services = it.services.some((one) => one.url) ? it.services : before.services;
    return { ...it, name, metadata, services };
}

/// Takes what an answer tells of one sandbox.
function put(it) {
    changes += 1;
    announce(sandboxes.get(it.id), it);
    sandboxes.set(it.id, it);
    render();
}

function drop(id) {
    changes += 1;
    sandboxes.delete(id);
    working.delete(id);
    render();
}

/// Says a change of state that nobody here has asked for.
function announce(before, now) {
    if (!before || before.state === now.state || working.has(now.id)) return;
    say(`${called(now)} is ${now.state}`);
}

function render() {
    const shown = [...sandboxes.values()];
    at("empty").hidden = shown.length > 0;
    document.querySelector("#list table").hidden = shown.length === 0;
    write(at("summary"), summary(shown));
    for (const [id, row] of rows) {
        if (sandboxes.has(id)) continue;
        row.remove();
        rows.delete(id);
    }
    const body = document.querySelector("#list tbody");
    shown.forEach((it, place) => {
        if (!rows.has(it.id)) rows.set(it.id, newRow());
        const row = rows.get(it.id);
        if (body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null);
        renderRow(row, it);
    });
    renderSandbox();
}

/// How many there are, and what those that run cost.
function summary(all) {
    const running = all.filter((it) => it.state === "running");
    const sum = (part) => running.reduce((total, it) => total + (it[part] ?? 0), 0);
    if (all.length === 0) return "None at the moment";
    const cost = running.length ? ` · ${cores(sum("cpu"))} and ${memory(sum("memory"))} in use` : "";
    return `${running.length} of ${all.length} running${cost}`;
}

function newRow() {
    const cells = ["Name", "State", "Time left", "Open", "Team, node", "Size"];
    const row = el("tr", { role: "row" });
    for (const label of cells) {
        const cell = el("td", { role: "cell" });
        cell.dataset.label = label;
        row.append(cell);
    }
    return row;
}

function renderRow(row, it) {
    const [name, state, left, services, place, cost] = row.children;
    const doing = working.get(it.id);
    fill(name, [called(it), it.name, it.vmid, it.provider], () => [
        button(called(it), () => showSandbox(it.id), { className: "name" }),
        it.name && it.vmid ? el("div", { className: "soft", textContent: `${KINDS[it.provider]} ${it.vmid}` }) : null,
    ]);
    fill(state, [it.state, doing, it.problem], () => [
        badge(it.state, doing),
        it.problem ? el("div", { className: "soft reason", textContent: it.problem, title: it.problem }) : null,
    ]);
    fill(left, life(it), () => {
        const [time, until] = life(it);
        const extends_ = it.expiresAt ? button("Extend", () => extend(it.id), { className: "small", ariaLabel: `Extend ${called(it)}` }) : null;
        return [el("div", { className: "line" }, el("span", { className: "time", textContent: time }), extends_), until ? el("div", { className: "soft", textContent: until }) : null];
    });
    fill(services, [it.state, it.services], () => [el("div", { className: "buttons" }, ...openers(it, (one) => !/^(exec|worker)$/.test(one.name)))]);
    fill(place, [it.team, it.node], () => [el("div", { textContent: it.team }), it.node ? el("div", { className: "soft", textContent: it.node }) : null]);
    const [first, second] = size(it);
    fill(cost, size(it), () => [el("div", { textContent: first ?? "" }), el("div", { className: "soft", textContent: second ?? "" })]);
}

/// Gives a sandbox its span again.
function extend(id, ttlSeconds) {
    return act(id, "extending", async () => {
        const body = ttlSeconds === undefined ? {} : { ttlSeconds };
        const { body: it } = await ask("POST", `sandboxes/${id}/extend`, { body });
        put(it);
        const [time, until] = life(it);
        say(`${called(it)}: ${time}${until ? `, ${until}` : ""}`);
    });
}

/// Does one thing to a sandbox, which is told in its row meanwhile; a second one waits until somebody asks again.
async function act(id, what, action) {
    if (working.has(id)) {
        say(`It is ${working.get(id)} already`);
        return undefined;
    }
    working.set(id, what);
    render();
    try {
        return await attempt("That did not work", action);
    } finally {
        working.delete(id);
        render();
    }
}
