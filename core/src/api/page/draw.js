// Elements, times and sizes in words, messages. Texts of guests and users get into the page as text, nowhere else.

const at = (id) => document.getElementById(id);

/// An element with properties and children; a child that is null is left out.
function el(tag, properties = {}, ...children) {
    const { role, ...rest } = properties;
    const made = Object.assign(document.createElement(tag), rest);
    if (role) made.setAttribute("role", role);
    made.append(...children.filter((it) => it !== null && it !== undefined));
    return made;
}

function icon(name) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    const use = document.createElementNS(space, "use");
    svg.setAttribute("class", `icon i-${name}`);
    svg.setAttribute("aria-hidden", "true");
    use.setAttribute("href", `#i-${name}`);
    svg.append(use);
    return svg;
}

function button(text, onclick, properties = {}, ...before) {
    return el("button", { type: "button", onclick, ...properties }, ...before, text);
}

const drawnFor = new WeakMap();

/// Fills a node anew where what it shows has changed: what is focused in it stays otherwise.
function fill(node, shown, build) {
    const now = JSON.stringify(shown);
    if (drawnFor.get(node) === now) return;
    drawnFor.set(node, now);
    const focused = node.contains(document.activeElement) ? document.activeElement.textContent : null;
    node.replaceChildren(...build().filter((it) => it !== null));
    if (focused !== null) [...node.querySelectorAll("button")].find((it) => it.textContent === focused)?.focus();
}

/// Sets a text where it differs, so that nothing is read aloud or selected anew for nothing.
function write(node, text) {
    if (node.textContent !== text) node.textContent = text;
}

/// Shows what is wrong in its place, or that nothing is.
function tell(node, problem) {
    node.hidden = !problem;
    node.replaceChildren(...(problem ? [el("strong", { textContent: problem.title }), " ", problem.detail ?? problem.message ?? ""] : []));
}

/// A message for some seconds; one about a problem stays until it is closed.
function say(text, problem) {
    const notices = at("notices");
    const top = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
    // Below an open dialog nothing is read aloud, or can be reached.
    if (notices.parentNode !== top) top.append(notices);
    const notice = el("div", { className: problem ? "notice bad" : "notice" });
    const words = el("p", {}, el("strong", { textContent: text }));
    if (problem) {
        const about = [problem.title, problem.detail].filter((it) => it && it !== text).join(". ");
        words.append(" ", about || problem.message);
        if (problem.requestId) words.append(el("span", { className: "soft", textContent: ` (request ${problem.requestId})` }));
    }
    notice.append(icon(problem ? "error" : "running"), words, button("", () => notice.remove(), { className: "plain", ariaLabel: "Close the message" }, icon("close")));
    notices.append(notice);
    if (!problem) setTimeout(() => notice.remove(), 8000);
    while (notices.children.length > 4) notices.firstChild.remove();
    return notice;
}

/// Does something that is asked for by a click, and says what goes wrong.
async function attempt(what, action) {
    try {
        return await action();
    } catch (error) {
        if (error.name !== "AbortError" && !(error instanceof Refused)) say(what, error);
        return undefined;
    }
}

function open(dialog) {
    if (!dialog.open) dialog.showModal();
}

const SPANS = [[900, "15 minutes"], [3600, "1 hour"], [14400, "4 hours"], [28800, "8 hours"], [86400, "1 day"], [604800, "7 days"], [null, "for ever"]];

function spans(chosen) {
    return SPANS.map(([seconds, text]) => el("option", { value: String(seconds), textContent: text, selected: seconds === chosen }));
}

/// A span in words, of two parts at most.
function span(ms) {
    const minutes = Math.ceil(ms / 60000);
    if (minutes < 120) return minutes === 1 ? "1 minute" : `${minutes} minutes`;
    const hours = Math.round(minutes / 60);
    if (hours < 48) return minutes % 60 && hours < 10 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${hours} hours`;
    return `${Math.round(hours / 24)} days`;
}

/// A time of day, with its date where that is not today's.
function clock(time) {
    const date = new Date(time);
    const near = date.toDateString() === new Date().toDateString();
    return date.toLocaleString([], { ...(near ? {} : { day: "numeric", month: "short" }), hour: "2-digit", minute: "2-digit" });
}

/// How long a sandbox is still there, and until when.
function life(it) {
    const end = it.expiredAt || it.state === "stopped" || it.state === "paused" ? it.keptUntil : it.expiresAt;
    if (!end) return ["no end", ""];
    const left = new Date(end) - Date.now();
    const verb = end === it.keptUntil ? "kept until" : { delete: "deleted at", stop: "stops at", pause: "pauses at" }[it.onExpiry];
    return [left > 0 ? span(left) : "over", `${verb} ${clock(end)}`];
}

function memory(mib) {
    return mib >= 1024 ? `${Math.round(mib / 102.4) / 10} GB` : `${mib} MB`;
}

function cores(count) {
    return count === 1 ? "1 core" : `${count} cores`;
}

/// Cores, memory and disk, as far as they are known.
function size(it) {
    return [it.cpu && cores(it.cpu), it.memory && memory(it.memory), it.disk && `${it.disk} GB disk`].filter(Boolean);
}

const KINDS = { "pve-lxc": "container", "pve-vm": "VM", morph: "instance" };

/// Its name; without one, what it is called in PVE.
function called(it) {
    return it.name ?? `${KINDS[it.provider] ?? "sandbox"} ${it.vmid ?? it.id}`;
}

/// The state as a picture and a word.
function badge(state, working) {
    const shown = working || state === "creating" ? "busy" : state;
    return el("span", { className: `state ${shown}` }, icon(shown), working ?? state);
}
