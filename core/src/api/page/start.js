// The page's beginning: the key, what is shown, and when the list is asked for.

function showEnter(problem) {
    clearTimeout(timer);
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    for (const it of runs.values()) it.stop?.();
    runs.clear();
    sandboxes = new Map();
    config = null;
    render();
    at("sandbox").replaceChildren();
    at("notices").replaceChildren();
    document.querySelector("nav").hidden = true;
    at("list").hidden = true;
    at("enter").hidden = false;
    write(at("provider"), "");
    tell(at("key-wrong"), problem);
    at("key").focus();
}

/// Shows the list, once a key has been taken.
async function enter() {
    config = (await ask("GET", "config/sandbox")).body;
    at("enter").hidden = true;
    at("list").hidden = false;
    document.querySelector("nav").hidden = false;
    write(at("provider"), config.providerDisplayName);
    await refresh();
}

async function submitKey(event) {
    event.preventDefault();
    const field = at("key");
    const keeps = at("keep").checked;
    remember(field.value.trim(), false);
    field.value = "";
    tell(at("key-wrong"), null);
    try {
        await enter();
        remember(key, keeps);
        at("show-create").focus();
    } catch (error) {
        forget();
        showEnter(error);
    }
}

function begin() {
    at("key-form").onsubmit = submitKey;
    at("forget").onclick = () => {
        forget();
        showEnter(null);
    };
    at("show-create").onclick = showCreate;
    at("create-form").onsubmit = create;
    at("source").onchange = chooseSource;
    at("show-health").onclick = showHealth;
    at("check").onclick = checkHealth;
    at("probe").onclick = probe;
    at("more").onclick = () => {
        limit += PAGE;
        refresh();
    };
    for (const it of document.querySelectorAll("[data-close]")) it.onclick = () => it.closest("dialog").close();
    at("sandbox").onclose = () => { shown = null; };
    for (const dialog of document.querySelectorAll("dialog")) {
        dialog.addEventListener("close", () => document.body.append(at("notices")));
    }
    document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : key && config && refresh()));
    if (key) enter().catch((error) => showEnter(error));
    else showEnter(null);
}

begin();
