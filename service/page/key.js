// The key that the server may ask for. It is kept for this tab alone (sessionStorage), and sent to this server alone.

import { byId } from "./dom.js";

const NAME = `vllm-wsgi:${new URL("..", import.meta.url).pathname}:key`;
let memory = "";
let asking = null;

export function key() {
  try {
    return sessionStorage.getItem(NAME) ?? memory;
  } catch {
    return memory;
  }
}

function keep(value) {
  memory = value;
  try {
    if (value) sessionStorage.setItem(NAME, value);
    else sessionStorage.removeItem(NAME);
  } catch {
    // It lasts as long as the page.
  }
  show();
  dispatchEvent(new Event("key-changed"));
}

function show() {
  byId("key-button").textContent = key() ? "Key: set" : "Key";
  byId("key-forget").hidden = !key();
}

/** Ask for a key and return whether one was given. Requests that are refused at the same time share one question. */
export function askForKey(reason) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    byId("key-reason").textContent = reason;
    byId("key-input").value = "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      asking = null;
      resolve(dialog.returnValue === "given");
    }, { once: true });
    dialog.showModal();
    byId("key-input").focus();
  });
  return asking;
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = byId("key-input").value.trim();
  if (given) keep(given);
  byId("key-dialog").close(given ? "given" : "");
});
byId("key-forget").addEventListener("click", () => {
  keep("");
  byId("key-dialog").close("");
});
byId("key-button").addEventListener("click", () =>
  askForKey(key() ? "A key is set in this tab. Enter another one to replace it." : "Without a key only open routes answer."));
show();
