// The ollama package of npm, used as its users do; what it read is printed as one JSON object.
// Arguments: the URL of a server with the demo model, and of one that embeds.

import { Ollama } from "ollama";

const [host, embedder] = process.argv.slice(2);
const client = new Ollama({ host });
const model = "demo";
const user = (content) => [{ role: "user", content }];
const weather = {
  type: "function",
  function: {
    name: "get_current_weather",
    description: "Get the weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

const streamed = async (question, fields) => {
  const read = { text: "", thinking: "", calls: [], last: null };
  for await (const part of await client.chat({ model, messages: user(question), stream: true, ...fields })) {
    read.text += part.message.content;
    read.thinking += part.message.thinking ?? "";
    read.calls.push(...(part.message.tool_calls ?? []).map((call) => call.function));
    read.last = { done: part.done, done_reason: part.done_reason };
  }
  return read;
};

const failure = async (ask) => {
  try {
    await ask();
    return null;
  } catch (error) {
    return { status: error.status_code, message: error.message };
  }
};

const abandoned = async () => {
  const stream = await client.chat({ model, messages: user("Tell me a long story"), stream: true, think: false });
  for await (const _ of stream) stream.abort();
};

const shown = await client.show({ model });
console.log(
  JSON.stringify({
    version: (await client.version()).version,
    list: (await client.list()).models.map((each) => each.name),
    ps: (await client.ps()).models.map((each) => each.name),
    capabilities: shown.capabilities,
    chat: (await client.chat({ model, messages: user("What is vllm-wsgi?"), think: false })).message.content,
    stream: await streamed("What is vllm-wsgi?", { think: false }),
    thinking: await streamed("Why is the sky blue?", { think: true }),
    tools: await streamed("What is the weather in Paris?", { think: false, tools: [weather] }),
    generate: (await client.generate({ model, prompt: "What is vllm-wsgi?", think: false })).response,
    format: (
      await client.chat({
        model,
        messages: user("Which colour is the sky?"),
        think: false,
        format: { enum: ["red", "green"] },
      })
    ).message.content,
    vectors: (await new Ollama({ host: embedder }).embed({ model, input: ["a", "b"] })).embeddings.map((v) => v.length),
    unknown: await failure(() => client.chat({ model: "other", messages: user("x") })),
    bad: await failure(() => streamed("x", { options: { temperature: "hot" } })),
    aborted: await failure(abandoned),
  }),
);
