// The list of models, kept in the order of their names and changed in place.

import { explain } from "./api.js";
import { catalog } from "./catalog.js";
import { byId, setText } from "./dom.js";
import { asker, ModelRow } from "./model_row.js";
import * as pulls from "./pulls.js";

const rows = new Map();
let ask = null;

function show() {
  const names = new Set(catalog.models.map((each) => each.name));
  for (const [name, row] of rows) {
    if (names.has(name)) continue;
    row.node.remove();
    rows.delete(name);
  }
  const sorted = [...catalog.models].sort((one, other) => one.name.localeCompare(other.name));
  sorted.forEach((tag, index) => {
    if (rows.has(tag.name)) rows.get(tag.name).show(tag);
    else rows.set(tag.name, new ModelRow(tag, catalog, ask));
    const { node } = rows.get(tag.name);
    // Moving a node that has the focus would lose it.
    if (byId("model-list").children[index] !== node) byId("model-list").insertBefore(node, byId("model-list").children[index] ?? null);
  });
  byId("models-error").hidden = !catalog.error;
  setText(byId("models-error"), catalog.error ? explain(catalog.error) : "");
  const loaded = sorted.filter((each) => catalog.stateOf(each.name)?.state === "ready").length;
  setText(byId("models-summary"), `${sorted.length} ${sorted.length === 1 ? "model" : "models"}, ${loaded} loaded`);
}

export function start() {
  ask = asker(() => catalog.refresh());
  pulls.start(() => catalog.refresh());
  byId("models-refresh").addEventListener("click", () => catalog.refresh());
  catalog.addEventListener("change", show);
  if (catalog.isKnown) show();
  catalog.addEventListener("states", () => {
    for (const row of rows.values()) row.showState();
  });
}

/** The view has come into sight. */
export const shown = () => catalog.refresh();
