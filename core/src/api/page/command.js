// Commands in a sandbox. Output is text, whatever is in it.

/// What is shown of an output at most: a browser becomes slow with more.
const SHOWN_CHARACTERS = 400_000;

/// The command line of each sandbox with its output; it goes on while another sandbox is shown.
const runs = new Map();

function run(id) {
    if (!runs.has(id)) runs.set(id, newRun(id));
    return runs.get(id);
}

function newRun(id) {
    const line = el("input", { ariaLabel: "Command", placeholder: "uname -a; df -h /", autocomplete: "off", autocapitalize: "off", spellcheck: false, required: true, className: "mono" });
    const output = el("pre", { tabIndex: 0, hidden: true, ariaLabel: "Output", role: "region" });
    const end = el("p", { className: "soft", role: "status" });
    const submit = el("button", { textContent: "Run" });
    const it = { id, output, end, stop: null };
    it.element = el("form", {
        onsubmit: (event) => {
            event.preventDefault();
            if (it.stop) it.stop();
            else execute(it, line.value, submit);
        },
    }, el("div", { className: "line" }, line, submit), output, end);
    return it;
}

async function execute(it, command, submit) {
    const stopping = new AbortController();
    let started = null;
    it.stop = () => {
        stopping.abort();
        // Where the sandbox has a daemon of pve-edge, a command goes on without its client.
        if (started) attempt("The command goes on", () => ask("DELETE", `sandboxes/${it.id}/processes/${started}`));
    };
    it.output.replaceChildren();
    it.output.hidden = false;
    submit.textContent = "Stop";
    write(it.end, "It runs …");
    try {
        const response = await send("POST", `sandboxes/${it.id}/exec`, { body: { command }, headers: { Accept: "text/event-stream" }, signal: stopping.signal });
        let last = null;
        for await (const event of events(response)) {
            last = event;
            if (event.event === "started") started = event.data.process;
            show(it.output, event);
        }
        write(it.end, ended(last));
    } catch (error) {
        write(it.end, error.name === "AbortError" ? "Stopped" : `${error.title ?? "The connection was cut"}: ${error.detail ?? "the command may still run"}`);
    } finally {
        it.stop = null;
        submit.textContent = "Run";
    }
}

function show(output, { event, data }) {
    const text = { stdout: data.data, stderr: data.data, gap: `\n… ${data.bytes} bytes were dropped …\n` }[event];
    if (!text) return;
    const isAtEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 8;
    output.append(event === "stdout" ? text : el("span", { className: event, textContent: text }));
    let length = output.textContent.length;
    while (length > SHOWN_CHARACTERS && output.childNodes.length > 1) {
        length -= output.firstChild.textContent.length;
        output.firstChild.remove();
    }
    if (isAtEnd) output.scrollTop = output.scrollHeight;
}

/// How a command ended, by its last event.
function ended(last) {
    if (last?.event === "error") return `${last.data.title ?? "Error"}: ${last.data.detail ?? last.data.message ?? ""}`;
    if (last?.event !== "exit") return "The output ended without an exit code: the command may still run";
    const { exitCode, timedOut, signal, oomKilled, error } = last.data;
    const why = [timedOut && "its time was over", signal && `by the signal ${signal}`, oomKilled && "for want of memory", error].filter(Boolean);
    return `Exit code ${exitCode}${why.length ? `, ${why.join(", ")}` : ""}`;
}
