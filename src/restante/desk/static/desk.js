// What the pages do beyond links and forms: news from the server, the switch of light and dark, and "are you sure".
// Every page can be read and used without it. Nothing is made of text here: the server renders, htmx swaps.
"use strict";

const root = document.documentElement;

// -- news ------------------------------------------------------------------------------------------------------------
// One stream for the page. Parts with hx-trigger="news from:body" are fetched anew when there is news, unless the page
// is out of sight: then once, when it comes back.
const live = document.getElementById("live");
let missed = false;

function tell() {
    if (document.hidden) {
        missed = true;
        return;
    }
    missed = false;
    document.body.dispatchEvent(new Event("news"));
}

function listen() {
    const source = new EventSource(document.body.dataset.live);
    const show = (state, words) => {
        live.dataset.state = state;
        live.textContent = words;
    };
    source.addEventListener("open", () => {
        show("on", "live");
    });
    source.addEventListener("changed", tell);
    source.addEventListener("over", () => {
        source.close();
        location.reload();
    });
    source.addEventListener("error", () => show("off", "not live"));
    addEventListener("pagehide", () => source.close());
}

if (live && document.body.dataset.live) {
    listen();
    document.addEventListener("visibilitychange", () => missed && tell());
    // Out of the browser's memory of pages: the stream was closed when it went in.
    addEventListener("pageshow", (event) => event.persisted && location.reload());
}

// -- light and dark --------------------------------------------------------------------------------------------------
const button = document.getElementById("theme");

function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function label() {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Switch to light colours" : "Switch to dark colours");
}

if (button) {
    button.hidden = false;
    label();
    button.addEventListener("click", () => {
        root.dataset.theme = isDark() ? "light" : "dark";
        document.cookie = `restante-theme=${root.dataset.theme}; Path=/; Max-Age=31536000; SameSite=Strict`;
        label();
        document.body.dispatchEvent(new Event("theme"));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
        label();
        document.body.dispatchEvent(new Event("theme"));
    });
}

// -- are you sure ----------------------------------------------------------------------------------------------------
document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
});

// -- samples ---------------------------------------------------------------------------------------------------------
for (const copy of document.querySelectorAll("[data-copy]")) {
    copy.hidden = !navigator.clipboard;
    copy.addEventListener("click", async () => {
        await navigator.clipboard.writeText(document.getElementById(copy.dataset.copy).textContent);
        copy.textContent = "Copied";
    });
}
