// One model in the list: what it is and can do, whether it is loaded, and what can be done with it.

import { explain, json, send } from "./api.js";
import { byId, el, setText } from "./dom.js";
import { bytes, count, shortName } from "./format.js";
import { STATES } from "./live.js";

export class ModelRow {
  constructor(tag, catalog, ask) {
    Object.assign(this, { name: tag.name, catalog, ask });
    this.state = el("span", { class: "state" }, el("span", { class: "mark", "aria-hidden": "true" }), el("span"));
    this.facts = el("p", { class: "badges" });
    this.why = el("p", { class: "why" });
    this.line = el("p", { class: "said-line", role: "status" });
    this.toggle = this.button("Load", () => this.load());
    this.shown = el("div");
    const short = shortName(this.name);
    this.node = el("li", { class: "panel model" },
      el("div", { class: "model-main" },
        el("div", {}, el("h2", {}, short), this.facts, this.why),
        this.state,
        el("div", { class: "actions" }, this.toggle,
          this.button("Create from", () => this.create()),
          this.button("Copy", () => this.copy()),
          this.button("Delete", () => this.delete()))),
      this.line,
      el("details", { toggle: (event) => event.target.open && this.details() }, el("summary", {}, "Details", el("span", { class: "sr" }, ` of ${short}`)), this.shown));
    this.show(tag);
  }

  button(text, click) {
    return el("button", { type: "button", class: "quiet", click }, text, el("span", { class: "sr" }, ` ${shortName(this.name)}`));
  }

  show(tag) {
    this.tag = tag;
    const { details = {}, capabilities = [] } = tag;
    const context = details.context_length ? `${count(details.context_length)} tokens of context` : "";
    const facts = [bytes(tag.size), details.parameter_size && `${details.parameter_size} parameters`, details.quantization_level, context];
    const text = facts.filter(Boolean).join(" · ");
    const now = `${capabilities.join()}|${text}`;
    if (this.factsAre !== now) this.facts.replaceChildren(...capabilities.map((each) => el("span", { class: "badge" }, each)), el("span", {}, text));
    this.factsAre = now;
    this.showState();
  }

  showState() {
    const entry = this.catalog.stateOf(this.name);
    const state = entry?.state ?? "idle";
    this.state.dataset.state = state;
    const until = entry?.expires_at && state === "ready" ? `, ${expiry(entry.expires_at)}` : "";
    setText(this.state.lastElementChild, (STATES[state] ?? state) + until);
    setText(this.why, entry?.reason ?? "");
    if (state === "unknown") return;
    this.isLoaded = state !== "idle" && state !== "failed";
    setText(this.toggle.firstChild, this.isLoaded ? "Unload" : "Load");
  }

  say(text, isBad = false) {
    this.line.classList.toggle("bad", isBad);
    setText(this.line, text);
  }

  async load() {
    const unload = this.isLoaded;
    this.toggle.disabled = true;
    this.say(unload ? "Unloading, as soon as nothing runs in it." : "Loading.");
    try {
      const body = { model: this.name, stream: false, ...(unload ? { keep_alive: 0 } : {}) };
      const route = this.tag.capabilities?.includes("embedding") ? "api/embed" : "api/generate";
      await json(route, { method: "POST", body: route === "api/embed" ? { ...body, input: [] } : body });
      this.say(unload ? "Unloaded." : "Loaded.");
    } catch (error) {
      this.say(explain(error), true);
    }
    this.toggle.disabled = false;
    await this.catalog.refresh();
  }

  create() {
    this.ask({
      title: `Create a model from ${shortName(this.name)}`,
      text: "The new model shares the engine of this one and adds to each request what you set here.",
      button: "Create",
      fields: [
        { name: "model", label: "Name", required: true },
        { name: "system", label: "System text", rows: 3 },
        { name: "parameters", label: "Parameters, as JSON", rows: 3, placeholder: '{"temperature": 0.3}', isJson: true },
      ],
      act: async ({ model, system, parameters }) => {
        await json("api/create", { method: "POST", body: {
          model, from: this.name, stream: false, ...(system ? { system } : {}), ...(parameters ? { parameters: JSON.parse(parameters) } : {}),
        } });
        this.say(`Created ${model}.`);
      },
    });
  }

  copy() {
    this.ask({
      title: `Copy ${shortName(this.name)}`, text: "The copy shares the files and the engine.", button: "Copy",
      fields: [{ name: "destination", label: "Name of the copy", required: true }],
      act: async ({ destination }) => {
        await send("api/copy", { method: "POST", body: { source: this.name, destination } });
        this.say(`Copied to ${destination}.`);
      },
    });
  }

  delete() {
    this.ask({
      title: `Delete ${shortName(this.name)}?`, button: "Delete", isDangerous: true, fields: [],
      text: "Its name is gone at once. Its files go too, if they were pulled or uploaded for this model and no other model uses them. This can't be undone.",
      act: () => send("api/delete", { method: "DELETE", body: { model: this.name } }),
    });
  }

  async details() {
    setText(this.shown, "Loading the details.");
    try {
      const shown = await json("api/show", { method: "POST", body: { model: this.name } });
      const rows = [
        ["Family", shown.details?.family], ["Parent", shown.details?.parent_model], ["Parameters", shown.parameters, true],
        ["System text", shown.system, true], ["Template", shown.template, true], ["License", shown.license, true],
        ["Modelfile", shown.modelfile, true],
      ];
      this.shown.replaceChildren(el("dl", { class: "shown" }, rows.filter(([, text]) => text).flatMap(([label, text, isLong]) => [
        el("dt", {}, label), el("dd", {}, isLong ? el("pre", { tabindex: 0, role: "group", "aria-label": `${label} of ${shortName(this.name)}` }, text) : text)])));
    } catch (error) {
      setText(this.shown, explain(error));
    }
  }
}

function expiry(text) {
  const at = new Date(text);
  const hours = (at - Date.now()) / 3.6e6;
  if (!(hours < 24 * 365)) return "stays loaded";
  return hours < 24 ? `until ${at.toTimeString().slice(0, 5)}` : `until ${at.toISOString().slice(0, 10)}`;
}

/** The one dialog that asks: `{ title, text, button, isDangerous, fields, act }`; an error stays in it. */
export function asker(done) {
  const dialog = byId("ask-dialog");
  let act = null;
  let fields = [];
  const fail = (text) => {
    byId("ask-error").hidden = !text;
    setText(byId("ask-error"), text);
  };
  byId("ask-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    byId("ask-button").disabled = true;
    fail("");
    try {
      const values = Object.fromEntries(fields.map(({ name, input }) => [name, input.value.trim()]));
      for (const { isJson, label, name } of fields) if (isJson && values[name]) parsed(label, values[name]);
      await act(values);
      dialog.close();
      await done();
    } catch (error) {
      fail(explain(error));
    }
    byId("ask-button").disabled = false;
  });
  return (question) => {
    act = question.act;
    fields = question.fields.map((field) => {
      const id = `ask-${field.name}`;
      const common = { id, placeholder: field.placeholder, required: field.required, spellcheck: "false", autocomplete: "off" };
      const input = field.rows ? el("textarea", { ...common, rows: field.rows, class: field.isJson ? "code" : null }) : el("input", { ...common, type: "text" });
      return { ...field, input, node: el("label", { class: "field", for: id }, el("span", {}, field.label), input) };
    });
    setText(byId("ask-title"), question.title);
    setText(byId("ask-text"), question.text);
    setText(byId("ask-button"), question.button);
    byId("ask-button").className = question.isDangerous ? "danger" : "primary";
    byId("ask-fields").replaceChildren(...fields.map((each) => each.node));
    fail("");
    dialog.showModal();
    // A deletion must not be one Enter away.
    (fields[0]?.input ?? dialog.querySelector("[data-close]")).focus();
  };
}

function parsed(label, text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${label}: this is not JSON.`);
  }
}
