// One sandbox: its services, a command, its time, power, snapshot, deletion.

/// Id of the sandbox that is shown.
let shown = null;

const SERVICES = { vscode: "VS Code", xterm: "Terminal", vnc: "Desktop", preview: "Preview" };

function showSandbox(id) {
    shown = id;
    at("sandbox").replaceChildren(...parts(id));
    renderSandbox();
    open(at("sandbox"));
    // A listing knows less than the sandbox itself.
    attempt("The sandbox could not be read", async () => put((await ask("GET", `sandboxes/${id}`)).body));
}

/// The frame of the dialog, which `renderSandbox` fills.
function parts(id) {
    const section = (title, ...content) => el("section", {}, el("h3", { textContent: title }), ...content);
    const part = (name, properties = {}) => el("div", { id: `sandbox-${name}`, ...properties });
    const close = button("", () => at("sandbox").close(), { className: "plain", ariaLabel: "Close" }, icon("close"));
    return [
        el("div", { className: "top" }, el("h2", { id: "sandbox-name" }), close),
        part("state", { className: "line" }),
        part("reason", { className: "soft" }),
        section("Open", part("services", { className: "buttons" })),
        section("Run a command", run(id).element),
        section("Time", part("time"), timeForm(id)),
        section("Power", part("power", { className: "buttons" })),
        section("Snapshot", el("p", { className: "soft", textContent: "A template of what is on its disk now. The sandbox runs on." }), snapshotForm(id)),
        section("About", el("dl", { id: "sandbox-about" })),
        section("Delete", el("p", { className: "soft", textContent: "Its disk and the snapshots that it keeps are gone then. Templates stay." }), button("Delete …", () => confirmDelete(id), { className: "danger" })),
    ];
}

function renderSandbox() {
    const it = sandboxes.get(shown);
    if (!at("sandbox").hasChildNodes() || !shown) return;
    if (!it) {
        // It is gone, and so is what could be done with it.
        shown = null;
        at("sandbox").close();
        return;
    }
    write(at("sandbox-name"), called(it));
    fill(at("sandbox-state"), [it.state, working.get(it.id)], () => [badge(it.state, working.get(it.id))]);
    write(at("sandbox-reason"), it.problem ?? "");
    fill(at("sandbox-services"), [it.state, it.services], () => openers(it, (one) => one.name !== "exec"));
    write(at("sandbox-time"), life(it).filter(Boolean).join(", "));
    fill(at("sandbox-power"), [it.state, it.provider, working.has(it.id)], () => powers(it));
    fill(at("sandbox-about"), [it.metadata, it.team, it.node, it.cpu, it.memory, it.disk, it.commands, it.snapshotId], () => about(it));
}

/// Names and values about a sandbox, as they are.
function about(it) {
    const told = [
        ["Id", it.id],
        ["Team", it.team],
        ["Node", it.node],
        ["Size", size(it).join(", ")],
        ["Made from", it.snapshotId ?? it.templateVmid],
        ["Made", clock(it.createdAt)],
        ["Commands by", it.commands],
        ...Object.entries(it.metadata),
    ];
    return told.filter(([, value]) => value !== null && value !== "").map(([name, value]) => el("div", {}, el("dt", { textContent: name }), el("dd", { textContent: value })));
}

/// A button for each service.
function openers(it, isWanted) {
    const services = it.services.filter(isWanted);
    if (it.state !== "running") return [el("span", { className: "soft", textContent: it.state === "creating" ? "when it runs" : "while it runs" })];
    return services.map((one) => {
        const name = SERVICES[one.name] ?? one.name;
        const shownAs = one.visibility === "public" ? `${name} (public)` : name;
        const what = `${shownAs} of ${called(it)}, port ${one.port}`;
        return button(shownAs, () => openService(it.id, one), { className: "small", ariaLabel: `Open ${what}`, title: what }, icon("open"));
    });
}

/// Opens a service in a tab that knows nothing of this page, by a link of the gateway where there is one.
function openService(id, service) {
    return attempt(`${service.name} cannot be opened`, async () => {
        const url = config?.capabilities?.gateway === false ? await plainUrl(id, service) : await linked(id, service);
        if (navigator.userActivation?.isActive ?? true) window.open(url, "_blank", "noopener");
        const notice = say(`${SERVICES[service.name] ?? service.name} opens in a new tab`);
        notice.querySelector("p").append(" ", el("a", { href: url, target: "_blank", rel: "noopener noreferrer", textContent: "Open it here if it does not" }));
    });
}

async function linked(id, service) {
    try {
        const path = `sandboxes/${id}/services/${encodeURIComponent(service.name)}/link`;
        return web((await ask("POST", path, { body: {} })).body.url);
    } catch (error) {
        if (error.status === 501) return plainUrl(id, service);
        throw error;
    }
}

/// The service's own URL, which a listing need not know.
async function plainUrl(id, service) {
    const known = service.url ?? (await ask("GET", `sandboxes/${id}`)).body.services.find((it) => it.name === service.name)?.url;
    if (!known) throw new Problem({ title: "No address", detail: "It is not known (yet) where this service is." });
    return web(known);
}

/// A URL that is one of the web, and no script.
function web(url) {
    if (!/^https?:$/.test(new URL(url).protocol)) throw new Problem({ title: "No address", detail: "It is no URL of the web." });
    return url;
}

function timeForm(id) {
    const chosen = el("select", { ariaLabel: "From now on" }, ...spans(3600));
    const set = () => extend(id, JSON.parse(chosen.value));
    return el("div", { className: "line" }, button("Extend", () => extend(id)), el("span", { className: "soft", textContent: "or from now on" }), chosen, button("Set", set));
}

function powers(it) {
    // What is clicked meanwhile does nothing but to say so; a button that was disabled would lose the focus.
    const properties = working.has(it.id) ? { ariaDisabled: "true" } : {};
    const power = (text, doing, path) => button(text, () => act(it.id, doing, () => change(it.id, path)), properties);
    const canPause = it.state === "running";
    const isOff = it.state === "stopped" || it.state === "paused" || it.state === "error";
    return [
        canPause ? power("Pause", "pausing", "pause") : null,
        canPause ? power("Stop", "stopping", "stop") : null,
        canPause ? power("Reboot", "rebooting", "reboot") : null,
        it.state === "paused" ? power("Resume", "resuming", "resume") : null,
        isOff && it.state !== "paused" ? power("Start", "starting", "start") : null,
        it.state === "creating" ? el("span", { className: "soft", textContent: "when it has come up" }) : null,
    ];
}

const DID = { files: "Its files are kept; its processes have ended.", disk: "Its files are kept; its processes have ended.", memory: "Its memory is kept, and it goes on where it was." };

async function change(id, path) {
    const { status, body: it } = await ask("POST", `sandboxes/${id}/${path}`, { body: {} });
    put(it);
    say(status === 202 ? `${called(it)}: PVE still works on it. ${it.problem ?? ""}` : `${called(it)} is ${it.state}. ${DID[it.keeps] ?? ""}`);
}

function snapshotForm(id) {
    const name = el("input", { maxLength: 64, ariaLabel: "Name of the snapshot", placeholder: "name", autocomplete: "off", spellcheck: false });
    const take = (event) => {
        event.preventDefault();
        act(id, "being copied", async () => {
            const body = name.value ? { name: name.value } : {};
            let { body: it } = await ask("POST", `sandboxes/${id}/snapshots`, { body, prefer: "wait=5" });
            while (it.status === "creating") it = (await ask("GET", `snapshots/${it.snapshotId}`, { prefer: "wait=5" })).body;
            if (it.status === "error") throw new Problem({ title: "The snapshot failed", detail: it.problem });
            name.value = "";
            say(`Snapshot ${it.name ?? it.snapshotId} is ${it.status}. New sandboxes can be made from it.`);
        });
    };
    return el("form", { className: "line", onsubmit: take }, name, el("button", { textContent: "Take a snapshot" }));
}

/// Asks before a deletion, by name.
function confirmDelete(id) {
    const it = sandboxes.get(id);
    if (!it) return;
    write(at("confirm-title"), `Delete ${called(it)}?`);
    write(at("confirm-text"), "What is on its disk is lost, and nobody can bring it back.");
    write(at("confirm-id"), id);
    write(at("confirmed"), `Delete ${called(it)}`);
    at("confirmed").onclick = () => {
        at("confirm").close();
        act(id, "being deleted", () => remove(id, called(it)));
    };
    open(at("confirm"));
}

/// Deletes it, and asks again until PVE is done.
async function remove(id, name) {
    let status = 202;
    for (let turn = 0; status === 202 && turn < 30; turn += 1) {
        try {
            ({ status } = await ask("DELETE", `sandboxes/${id}`, { prefer: "wait=10" }));
        } catch (error) {
            if (error.code !== "not-found") throw error;
            status = 204;
        }
    }
    if (status !== 204) throw new Problem({ title: "PVE still deletes it", detail: "It takes longer than usual; the list shows when it is gone." });
    runs.delete(id);
    drop(id);
    say(`${name} was deleted`);
    at("show-create").focus();
}
