// Clients of server-sent events that come back by themselves. What each has read is printed as JSON.
//
//   node follow.mjs eventsource URL SCRIPT MARK         the package eventsource, which reads as a browser does
//   node follow.mjs event-source-plus URL SCRIPT MARK   the package event-source-plus, which sends its POST again
//
// "begun" is printed when the text has MARK.
import { EventSource } from "eventsource";
import { EventSourcePlus } from "event-source-plus";

const [client, url, script, mark] = process.argv.slice(2);
const body = { model: "demo", messages: [{ role: "user", content: script }] };
const told = { text: "", ended: 0, opened: 0 };

function read(data) {
  const record = JSON.parse(data);
  const had = told.text.includes(mark);
  told.text += record.message?.content ?? `error: ${record.error}`;
  told.ended += record.done === true || "error" in record;
  if (!had && told.text.includes(mark)) console.log("begun");
}

function end() {
  console.log(JSON.stringify(told));
  process.exit(0);
}

if (client === "eventsource") {
  const answer = await fetch(`${url}/api/chat`, { method: "POST", body: JSON.stringify({ ...body, background: true }) });
  const source = new EventSource(url + (await answer.json()).link);
  source.onopen = () => (told.opened += 1);
  source.onmessage = (event) => read(event.data);
  // It is closed when the answer to one of its tries is a 204.
  source.onerror = () => source.readyState === EventSource.CLOSED && end();
} else {
  const source = new EventSourcePlus(`${url}/api/chat`, {
    method: "post",
    body: JSON.stringify({ ...body, resumable: true }),
    retryStrategy: "on-error",
  });
  const controller = source.listen({
    onResponse: ({ response }) => void (told.opened += response.ok),
    onMessage: (message) => read(message.data),
  });
  controller.onAbort(end);
}
