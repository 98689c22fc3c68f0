// What the deployment lacks, and the way to its sandboxes as this browser sees it.

async function showHealth() {
    open(at("health"));
    at("probed").replaceChildren();
    await checkHealth();
}

async function checkHealth() {
    const report = at("report");
    report.replaceChildren(el("p", { className: "state busy" }, icon("busy"), "PVE is asked"));
    try {
        const { body } = await ask("GET", "health/sandbox", { reports: 503 });
        if (!body?.reasons) throw new Problem({ title: "No answer of the API", detail: "Something before it has answered." });
        report.replaceChildren(...findings(body));
    } catch (error) {
        report.replaceChildren(finding("error", error.title, error.detail ?? error.message));
    }
}

function finding(kind, title, text) {
    return el("div", { className: `finding ${kind}` }, icon(kind === "warning" ? "error" : kind), el("div", {}, el("strong", { textContent: title }), el("p", { textContent: text ?? "" })));
}

/// Reasons first, then warnings, then what is there.
function findings(it) {
    const isWell = it.status === "healthy";
    const about = [it.version && `PVE ${it.version}`, it.latencyMs !== undefined && `${it.latencyMs} ms`].filter(Boolean).join(", ");
    return [
        finding(isWell ? "running" : "error", isWell ? "Sandboxes can be made" : "Sandboxes cannot be made", about || it.provider),
        ...it.reasons.map((one) => finding("error", one.code, one.detail)),
        ...(it.warnings ?? []).map((one) => finding("warning", one.code, one.detail)),
        facts("Nodes", it.nodes, (one) => [one.node, one.status, one.freeMemoryBytes !== null && `${memory(one.freeMemoryBytes / 2 ** 20)} free`]),
        facts("Storages", it.storages, (one) => [`${one.storage} on ${one.node}`, one.type, `${memory(one.freeBytes / 2 ** 20)} free`]),
        facts("Templates", it.templates, (one) => [one.snapshotId ?? `VMID ${one.vmid}`, one.node, one.lock && `locked: ${one.lock}`]),
    ].filter(Boolean);
}

function facts(title, all, parts) {
    if (!all?.length) return null;
    const items = all.map((it) => el("li", { textContent: parts(it).filter(Boolean).join(", ") }));
    return el("details", {}, el("summary", { textContent: `${title}: ${all.length}` }), el("ul", {}, ...items));
}

/// Fetches the gateway's own name: what comes back, or does not, tells DNS, certificate and route apart.
async function probe() {
    const said = at("probed");
    const origin = config?.portUrl?.replace("port-{port}-vm-{vmid}", "probe");
    if (!origin) {
        said.replaceChildren(finding("stopped", "There is no public domain", "PVE_PUBLIC_DOMAIN is not set: sandboxes are reached in their own network alone, and there is nothing to test."));
        return;
    }
    said.replaceChildren(el("p", { className: "state busy" }, icon("busy"), `${origin} is asked`));
    said.replaceChildren(...(await probed(`${origin}/`)));
}

async function probed(url) {
    const how = { cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer" };
    const { host } = new URL(url);
    const zone = host.replace(/^probe\./, "*.");
    try {
        const response = await fetch(url, how);
        const told = await response.json().catch(() => ({}));
        const name = finding("running", "DNS and certificate", `${host} was found, and its certificate is right.`);
        if (response.ok) return [name, finding("running", "Route", "The gateway of this deployment has answered.")];
        return [name, finding("error", `Route: ${response.status}`, told.detail ?? "The gateway has answered that something behind it does not work.")];
    } catch {
        // It may have answered all the same, and not as the gateway does.
    }
    try {
        await fetch(url, { ...how, mode: "no-cors" });
    } catch {
        const link = el("a", { href: url, target: "_blank", rel: "noopener noreferrer", textContent: `Open ${host}` });
        const text = `Nothing answers there that this browser trusts. DNS: is there a record for ${zone}, through the proxy of the zone? Certificate: does it cover ${zone}? The usual one covers one label below the zone's apex alone.`;
        const said = finding("error", "DNS or certificate", text);
        said.lastElementChild.append(el("p", {}, link, " to see which: the browser names the error."));
        return [said];
    }
    return [
        finding("running", "DNS and certificate", `${host} was found, and something answers there.`),
        finding("error", "Route", `It is not the gateway that answers: the route ${zone}/* does not lead to this deployment, or its gateway is not switched on.`),
    ];
}
