// Creating a sandbox, and following it until it runs.

const BY_VMID = "vmid";

/// The request that was not answered as it should be, and its key: the same again makes no second sandbox.
let tried = { text: "", key: "" };

async function showCreate() {
    const dialog = at("create");
    at("create-form").hidden = false;
    at("progress").hidden = true;
    tell(at("create-wrong"), null);
    if (!at("ttl").children.length) at("ttl").append(...spans(3600));
    open(dialog);
    await attempt("The sources could not be read", offerSources);
}

/// Presets, newest versions first, and the team's snapshots.
async function offerSources() {
    const [offer, snapshots] = await Promise.all([ask("GET", "config/sandbox"), ask("GET", "snapshots")]);
    config = offer.body;
    const newest = config.presets.map((it) => option({ preset: it.presetId }, `${it.label} (version ${it.versions.at(-1)?.version})`));
    const older = config.presets.flatMap((it) => it.versions.slice(0, -1).map((one) => option({ snapshotId: one.snapshotId }, `${it.label}, version ${one.version}`)));
    const own = snapshots.body.items.filter((it) => it.team && it.status === "ready");
    const taken = own.map((it) => option({ snapshotId: it.snapshotId }, `${it.name ?? it.snapshotId}${it.createdAt ? `, ${clock(it.createdAt)}` : ""}`));
    const groups = [["Presets", newest], ["Snapshots", taken], ["Older versions", older], ["Other", [el("option", { value: BY_VMID, textContent: "A template of PVE, by its VMID" })]]];
    const chosen = at("source").value;
    at("source").replaceChildren(...groups.filter(([, options]) => options.length).map(([label, options]) => el("optgroup", { label }, ...options)));
    at("source").value = chosen || JSON.stringify({ preset: config.defaultPresetId });
    if (at("source").selectedIndex < 0) at("source").selectedIndex = 0;
    chooseSource();
}

function option(source, text) {
    return el("option", { value: JSON.stringify(source), textContent: text });
}

function chooseSource() {
    const isByVmid = at("source").value === BY_VMID;
    at("vmid-field").hidden = !isByVmid;
    at("template-vmid").required = isByVmid;
}

/// What the form asks for; members that nobody has filled in are left out.
function wanted() {
    const source = at("source").value;
    const request = source === BY_VMID ? { templateVmid: Number(at("template-vmid").value) } : JSON.parse(source || "{}");
    request.ttlSeconds = JSON.parse(at("ttl").value);
    request.onExpiry = at("expiry").value;
    if (at("name").value) request.name = at("name").value;
    for (const part of ["cpu", "memory", "disk"]) {
        if (at(part).value) request[part] = Number(at(part).value);
    }
    const lines = at("metadata").value.split("\n").filter((it) => it.trim());
    if (lines.length) {
        request.metadata = Object.fromEntries(lines.map((it) => {
            const cut = it.indexOf("=");
            if (cut < 1) throw new Problem({ title: "Metadata", detail: `NAME=VALUE, one a line; this is none: ${it}` });
            return [it.slice(0, cut).trim(), it.slice(cut + 1).trim()];
        }));
    }
    return request;
}

async function create(event) {
    event.preventDefault();
    const submit = event.submitter;
    if (submit.ariaDisabled === "true") return;
    submit.ariaDisabled = "true";
    tell(at("create-wrong"), null);
    try {
        const body = wanted();
        const text = JSON.stringify(body);
        if (tried.text !== text) tried = { text, key: `page-${drawn()}` };
        const made = await ask("POST", "sandboxes", { body, prefer: "wait=1", headers: { "Idempotency-Key": tried.key } });
        tried = { text: "", key: "" };
        put(made.body);
        await follow(made.body);
    } catch (error) {
        if (!(error instanceof Refused)) tell(at("create-wrong"), error);
    } finally {
        submit.ariaDisabled = "false";
    }
}

/// Shows the steps of a sandbox that comes up. Each request for it carries it on.
async function follow(it) {
    const [steps, id] = [at("steps"), it.id];
    at("create-form").hidden = true;
    at("create-form").reset();
    chooseSource();
    at("progress").hidden = false;
    at("show-made").hidden = true;
    steps.replaceChildren();
    write(at("progress-what"), `${called(it)} is yours. You may close this: it goes on.`);
    at("progress").querySelector("[data-close]").focus();
    const isShown = () => steps.dataset.of === id;
    steps.dataset.of = id;
    step(steps, `claimed as ${id}`);
    try {
        while (it.state === "creating") {
            if (isShown()) step(steps, it.problem ?? "PVE works on it");
            await new Promise((resume) => setTimeout(resume, 300));
            it = (await ask("GET", `sandboxes/${id}`, { prefer: "wait=1" })).body;
            put(it);
        }
        if (isShown()) step(steps, it.problem ? `${it.state}: ${it.problem}` : it.state, it.state !== "error");
    } catch (error) {
        if (isShown()) step(steps, `${error.title ?? "error"}: ${error.detail ?? error.message}`, false);
    }
    if (!isShown()) return;
    at("show-made").hidden = !sandboxes.has(id);
    at("show-made").onclick = () => {
        at("create").close();
        showSandbox(id);
    };
}

/// Adds a step, unless it is the last one still; the one before is done then. `done` ends the list, well or badly.
function step(steps, text, done) {
    const last = steps.lastElementChild;
    if (last?.dataset.text === text) return;
    last?.replaceChildren(icon("running"), el("span", { textContent: last.dataset.text }));
    const kind = done === undefined ? "busy" : done ? "running" : "error";
    const made = el("li", {}, icon(kind), el("span", { textContent: text }));
    made.dataset.text = text;
    steps.append(made);
}
