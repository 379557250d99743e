// The models and their capabilities (api/tags), those that are loaded (the feed, or api/ps without the scope for it),
// and whether streams can be resumed here.

import { json, send } from "./api.js";
import { feed } from "./feed.js";

class Catalog extends EventTarget {
  /** Entries of api/tags. */
  models = [];
  /** Why they are not known; null when they are. */
  error = null;
  /** Entries of api/ps by name, for those who can't read the feed. */
  loaded = new Map();
  resumable = false;
  /** Whether the models have been asked for, with success or not. */
  isKnown = false;
  #loading = null;

  /** Read the models again. Calls at the same time share one request. */
  refresh() {
    this.#loading ??= this.#read().finally(() => (this.#loading = null));
    return this.#loading;
  }

  async #read() {
    try {
      const [tags, loaded] = await Promise.all([json("api/tags"), json("api/ps")]);
      this.models = tags.models ?? [];
      this.loaded = new Map((loaded.models ?? []).map((each) => [each.name, each]));
      this.error = null;
    } catch (error) {
      this.error = error;
    }
    this.isKnown = true;
    this.dispatchEvent(new Event("change"));
  }

  /** The state of a model: its entry in the snapshot, or one made of api/ps. Undefined when it is not loaded. */
  stateOf(name) {
    if (feed.snapshot?.host?.state === "gone") return { state: "unknown" };
    if (feed.snapshot) return feed.snapshot.models.find((each) => each.name === name);
    const entry = this.loaded.get(name);
    return entry && { ...entry, state: "ready", reason: "", memory_bytes: entry.size };
  }

  can(name, capability) {
    return this.models.find((each) => each.name === name)?.capabilities?.includes(capability) ?? false;
  }

  /** Without the feed, ask the route itself. */
  async probe() {
    try {
      await send("api/streams");
      this.#learn(true);
    } catch {
      this.#learn(false);
    }
  }

  #learn(resumable) {
    if (this.resumable === resumable) return;
    this.resumable = resumable;
    this.dispatchEvent(new Event("resumable"));
  }

  follow() {
    let names = "";
    feed.addEventListener("snapshot", ({ detail }) => {
      this.#learn(detail.resumable === true);
      const now = detail.models.map((each) => each.name).sort().join("\n");
      // A model that nobody here made: pulled, created or declared elsewhere.
      if (now !== names && now.split("\n").some((name) => name && !this.models.some((each) => each.name === name))) this.refresh();
      names = now;
      this.dispatchEvent(new Event("states"));
    });
    feed.addEventListener("state", () => feed.state === "closed" && this.probe());
  }
}

export const catalog = new Catalog();
