// The request as code to paste. A key is never in it, only the name of the variable that holds it.

import { serverUrl } from "./api.js";
import { catalog } from "./catalog.js";
import { byId, el, setText } from "./dom.js";
import { key } from "./key.js";

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const indented = (text, by) => text.replaceAll("\n", `\n${" ".repeat(by)}`);
const pretty = (value) => JSON.stringify(value, null, 2);

/** A JSON value as a Python literal: JSON's strings are Python's, its words are not. */
export function python(value, depth = 0) {
  const inner = "    ".repeat(depth + 1);
  const outer = "    ".repeat(depth);
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const isList = Array.isArray(value);
  const items = isList ? value.map((each) => python(each, depth + 1))
    : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${python(each, depth + 1)}`);
  const [open, close] = isList ? "[]" : "{}";
  const short = open + items.join(", ") + close;
  if (!items.length || (short.length < 90 && !short.includes("\n"))) return short;
  return `${open}\n${items.map((item) => `${inner}${item},`).join("\n")}\n${outer}${close}`;
}

/** Ollama's messages in OpenAI's words: images and calls have another shape there. */
function openaiMessages(messages) {
  return messages.map(({ role, content, images, tool_calls: calls, tool_call_id: id }) => ({
    role,
    content: images?.length
      ? [{ type: "text", text: content }, ...images.map((data) => ({ type: "image_url", image_url: { url: `data:image/png;base64,${data}` } }))]
      : content,
    ...(calls ? { tool_calls: calls.map((call, index) => ({
      id: call.id ?? `call_${index}`, type: "function",
      function: { name: call.function.name, arguments: JSON.stringify(call.function.arguments) },
    })) } : {}),
    ...(id ? { tool_call_id: id } : {}),
  }));
}

const OPENAI_OPTIONS = { temperature: "temperature", top_p: "top_p", seed: "seed", num_predict: "max_completion_tokens", stop: "stop" };
const EFFORT = { false: "none", true: "medium" };

function openaiFields(body) {
  const fields = { model: body.model, messages: openaiMessages(body.messages) };
  for (const [ours, theirs] of Object.entries(OPENAI_OPTIONS)) {
    if (body.options?.[ours] !== undefined) fields[theirs] = body.options[ours];
  }
  if (body.tools) fields.tools = body.tools;
  if (body.think !== undefined) fields.reasoning_effort = EFFORT[body.think] ?? body.think;
  if (body.format === "json") fields.response_format = { type: "json_object" };
  else if (body.format) fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema: body.format } };
  return fields;
}

const keywords = (fields) => Object.entries(fields).map(([name, value]) => `    ${name}=${python(value, 1)},`).join("\n");
const keyLine = (text) => (key() ? text : "");

const WRITERS = {
  curl: (body, url, accept) => [
    "curl -N \\",
    ...(key() ? ['  -H "Authorization: Bearer $VLLM_WSGI_KEY" \\'] : []),
    ...(accept ? [`  -H 'Accept: ${accept}' \\`] : []),
    `  ${quoted(`${url}/api/chat`)} \\`,
    `  -d ${quoted(pretty(body))}`,
  ].join("\n"),

  "Python: ollama": (body, url) => `${keyLine("import os\n\n")}from ollama import Client

client = Client(
    host=${JSON.stringify(url)},${keyLine(`
    headers={"Authorization": f"Bearer {os.environ['VLLM_WSGI_KEY']}"},`)}
)
for part in client.chat(
${keywords(body)}
    stream=True,
):
    print(part.message.content or "", end="", flush=True)
`,

  "Python: openai": (body, url) => `${keyLine("import os\n\n")}from openai import OpenAI

client = OpenAI(
    base_url=${JSON.stringify(`${url}/v1`)},
    api_key=${key() ? 'os.environ["VLLM_WSGI_KEY"]' : '"unused"'},
)
stream = client.chat.completions.create(
${keywords(openaiFields(body))}
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
`,

  "JavaScript: fetch": (body, url) => `const response = await fetch(${JSON.stringify(`${url}/api/chat`)}, {
  method: "POST",
  headers: {
    "Content-Type": "application/json",${keyLine("\n    Authorization: `Bearer ${process.env.VLLM_WSGI_KEY}`,")}
  },
  body: JSON.stringify(${indented(pretty(body), 2)}),
});
if (!response.ok) throw new Error((await response.json()).error);

let rest = "";
for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\\n");
  rest = lines.pop();
  for (const line of lines.filter((each) => each.trim())) {
    const record = JSON.parse(line);
    if (record.error) throw new Error(record.error);
    console.log(record.message.content);
  }
}
`,

  "JavaScript: EventSource": (body, url) => `// The answer is generated in the background; the browser's own EventSource reads it and comes back by itself.
const made = await fetch(${JSON.stringify(`${url}/api/chat`)}, {
  method: "POST",
  headers: { "Content-Type": "application/json"${keyLine(", Authorization: `Bearer ${key}`")} },
  body: JSON.stringify(${indented(pretty({ ...body, background: true }), 2)}),
});
if (!made.ok) throw new Error((await made.json()).error);

const { link } = await made.json();
const source = new EventSource(new URL(link, made.url));
source.onmessage = ({ data }) => {
  const record = JSON.parse(data);
  if (record.done || record.error) source.close();
  console.log(record.error ?? record.message.content);
};
`,

  Flask: (body) => `# In an application of yours: the same routes, below /llm, with the engine host beside it.
from flask import Flask
from vllm_wsgi import Settings, create_blueprint

app = Flask(__name__)
settings = Settings(engine_socket="/run/vllm-wsgi/engine.sock")
app.register_blueprint(create_blueprint(settings), url_prefix="/llm")

# A page of yours, or a test, then asks it so:
if __name__ == "__main__":
    answer = app.test_client().post(
        "/llm/api/chat",
        json=${indented(python({ ...body, stream: false }, 2), 0)},
    )
    print(answer.get_json()["message"]["content"])
`,
};

const NOTES = {
  "JavaScript: EventSource": "Needs a server that keeps streams in the background.",
  "JavaScript: fetch": "A page of another origin needs that origin in VLLM_WSGI_ORIGINS.",
  "Python: openai": "Options that OpenAI does not know are left out.",
};

let current = "curl";

/** Show the dialog for a request's body; `accept` is the transport's media type, empty for the default. */
export function copyAs(body, accept) {
  const dialog = byId("copy-dialog");
  // Snippets that this server can't answer are not offered.
  const names = Object.keys(WRITERS).filter((name) => catalog.resumable || name !== "JavaScript: EventSource");
  if (!names.includes(current)) current = names[0];
  const tabs = names.map((name) => el("button", {
    type: "button", role: "tab", "aria-controls": "snippet", "data-name": name, click: () => choose(name),
  }, name));
  const choose = (name) => {
    current = name;
    for (const tab of tabs) {
      const chosen = tab.dataset.name === name;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
    }
    setText(byId("snippet"), WRITERS[name](body, serverUrl(), accept));
    byId("snippet").scrollTop = 0;
    setText(byId("copy-note"), NOTES[name] ?? "");
    setText(byId("copy-done"), "");
  };
  byId("copy-tabs").replaceChildren(...tabs);
  choose(current);
  dialog.showModal();
}

byId("copy-tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const tabs = [...byId("copy-tabs").children];
  const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
  next.focus();
  next.click();
});

byId("copy-button").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(byId("snippet").textContent);
    setText(byId("copy-done"), "Copied.");
  } catch {
    // No clipboard without TLS: select it, so that Ctrl-C does it.
    getSelection().selectAllChildren(byId("snippet"));
    setText(byId("copy-done"), "Selected: press Ctrl-C.");
  }
});
