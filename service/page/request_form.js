// The request's fields: model, transport, system text, thinking, tools, schema, options. JSON is checked as it is typed.

import { catalog } from "./catalog.js";
import { byId, el, kept, setText } from "./dom.js";
import { shortName } from "./format.js";

const EXAMPLES = {
  schema: {
    type: "object",
    properties: { answer: { type: "string" }, certain: { type: "boolean" } },
    required: ["answer", "certain"],
  },
  tools: [{
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather in a city, now",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  }],
};
const PLAIN = ["model", "system", "think", "format", "schema", "tools", "more-options"];
const JSON_FIELDS = { schema: checkObject, tools: checkList, "more-options": checkObject };
const options = [...document.querySelectorAll("[data-option]")];

export const value = (id) => byId(id).value;
export const transport = () => document.querySelector("[name=transport]:checked").value;
export const wantsResumable = () => catalog.resumable && byId("resumable").checked;

/** Build the body of POST api/chat for these messages. Throws an Error that names the field that is wrong. */
export function body(messages) {
  const bad = Object.keys(JSON_FIELDS).find((id) => !byId(id).closest("[hidden]") && !check(id));
  if (bad) {
    byId("request-panel").open = true;
    byId(bad).focus();
    throw new Error(`The field "${byId(bad).labels[0].textContent}" is not valid: ${byId(`${bad}-error`).textContent}`);
  }
  if (!value("model")) throw new Error("There is no model to ask.");
  const system = value("system").trim();
  const told = messages.map(({ model, ...message }) => message); // `model` is for the page alone.
  const all = system ? [{ role: "system", content: system }, ...told] : told;
  const fields = { model: value("model"), messages: all };
  if (!byId("tools-field").hidden && value("tools").trim()) fields.tools = JSON.parse(value("tools"));
  if (!byId("think-field").hidden && value("think")) fields.think = JSON.parse(value("think"));
  if (value("format") === "json") fields.format = "json";
  if (value("format") === "schema") fields.format = JSON.parse(value("schema") || "{}");
  const chosen = chosenOptions();
  if (Object.keys(chosen).length) fields.options = chosen;
  return fields;
}

export const wantsJson = () => value("format") !== "";

function chosenOptions() {
  const more = value("more-options").trim();
  const numbers = options.filter((each) => each.value !== "").map((each) => [each.dataset.option, Number(each.value)]);
  return { ...(more ? JSON.parse(more) : {}), ...Object.fromEntries(numbers) };
}

/** Check a JSON field and show what is wrong below it. Return whether it is right. */
function check(id) {
  const field = byId(id);
  let trouble = "";
  if (field.value.trim()) {
    try {
      trouble = JSON_FIELDS[id](JSON.parse(field.value));
    } catch (error) {
      trouble = where(field.value, error);
    }
  }
  field.setAttribute("aria-invalid", trouble ? "true" : "false");
  setText(byId(`${id}-error`), trouble);
  return !trouble;
}

function checkObject(parsed) {
  return parsed !== null && typeof parsed === "object" && !Array.isArray(parsed) ? "" : "This must be a JSON object.";
}

function checkList(parsed) {
  return Array.isArray(parsed) ? "" : "This must be a JSON list.";
}

/** V8 and SpiderMonkey name the place in two ways; others name none. */
function where(text, error) {
  const position = /at position (\d+)/.exec(error.message);
  const line = /line (\d+) column (\d+)/.exec(error.message);
  if (line) return `Not JSON: line ${line[1]}, column ${line[2]}.`;
  if (!position) return /end of/i.test(error.message) ? "Not JSON yet: the end is missing." : "Not JSON.";
  const before = text.slice(0, Number(position[1])).split("\n");
  return `Not JSON: line ${before.length}, column ${before.at(-1).length + 1}.`;
}

function store() {
  const fields = Object.fromEntries(PLAIN.map((id) => [id, value(id)]));
  const numbers = Object.fromEntries(options.map((each) => [each.dataset.option, each.value]));
  kept.write("request", { ...fields, options: numbers, transport: transport(), resumable: byId("resumable").checked });
}

function restore() {
  const stored = kept.read("request") ?? {};
  for (const id of PLAIN) if (id !== "model" && typeof stored[id] === "string") byId(id).value = stored[id];
  for (const each of options) each.value = stored.options?.[each.dataset.option] ?? "";
  byId("resumable").checked = stored.resumable ?? true;
  const radio = document.querySelector(`[name=transport][value="${stored.transport === "sse" ? "sse" : "ndjson"}"]`);
  radio.checked = true;
  return stored.model ?? "";
}

function showModels(wanted) {
  const select = byId("model");
  const chosen = select.value || wanted;
  const able = catalog.models.filter((each) => !each.capabilities?.includes("embedding"));
  const names = able.map((each) => each.name);
  if (names.join("\n") !== [...select.options].map((each) => each.value).join("\n")) {
    select.replaceChildren(...(names.length ? names : [""]).map((name) => el("option", { value: name }, shortName(name) || "No model")));
    const loaded = names.find((name) => catalog.stateOf(name)?.state === "ready");
    select.value = names.includes(chosen) ? chosen : (loaded ?? names[0] ?? "");
  }
  showModel();
}

/** What the chosen model can do decides which fields there are. */
function showModel() {
  const name = value("model");
  const state = catalog.stateOf(name)?.state;
  const words = { ready: "Loaded.", loading: "Loading.", restarting: "Restarting.", failed: "The model can't be loaded: Live shows why.", unknown: "The engine host does not answer." };
  const hint = name ? (words[state] ?? "Not loaded: the first question loads it.") : "";
  setText(byId("model-hint"), catalog.error && !name ? "The models are not known." : hint);
  byId("think-field").hidden = !catalog.can(name, "thinking");
  byId("tools-field").hidden = !catalog.can(name, "tools");
  byId("attach").hidden = !catalog.can(name, "vision");
}

function showResumable() {
  const able = catalog.resumable;
  const radio = document.querySelector("[value=eventsource]");
  for (const id of ["eventsource-choice", "resumable-choice", "resumable-hint"]) byId(id).hidden = !able;
  if (!able && radio.checked) document.querySelector("[value=ndjson]").checked = true;
  radio.disabled = !able;
  byId("resumable").disabled = !able || transport() === "eventsource";
  setText(byId("resumable-hint"), able ? "Stop ends it, a lost connection doesn't." : "");
}

function showFormat() {
  byId("schema-field").hidden = value("format") !== "schema";
}

export function start() {
  const wanted = restore();
  showFormat();
  showResumable();
  const form = byId("request-form");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target.id in JSON_FIELDS) check(event.target.id);
  });
  form.addEventListener("change", () => {
    showFormat();
    showModel();
    showResumable();
    store();
  });
  for (const [id, example] of Object.entries(EXAMPLES)) {
    byId(`${id}-example`).addEventListener("click", () => {
      byId(id).value = JSON.stringify(example, null, 2);
      byId(id).rows = 8;
      check(id);
      store();
    });
  }
  for (const id of Object.keys(JSON_FIELDS)) check(id);
  catalog.addEventListener("change", () => showModels(wanted));
  if (catalog.isKnown) showModels(wanted);
  catalog.addEventListener("states", showModel);
  catalog.addEventListener("resumable", showResumable);
}
