// Requests to this server: where it is, with which key, and its errors. Works below any prefix.

import { askForKey, key } from "./key.js";

const BASE = new URL("..", import.meta.url);

/** The address of a route, such as `api/chat`; an address that the server gave is taken as it stands. */
export function address(route) {
  return new URL(/^(https?:|\/)/.test(route) ? route : `./${route}`, BASE);
}

/** The address that clients call this server by, without a slash at its end. */
export const serverUrl = () => BASE.href.replace(/\/$/, "");

/** An answer that is an error; `status` is HTTP's, `requestId` names it in the server's log. */
export class ServerError extends Error {
  constructor(message, status, requestId = "", retryAfter = "") {
    super(message);
    this.name = "ServerError";
    this.status = status;
    this.requestId = requestId;
    this.retryAfter = retryAfter;
  }
}

/** Send a request and return its Response. Throws ServerError for an error's status, TypeError without a connection.
 *  A 401 asks for a key and sends the request once more. With `keepalive` the request outlives the page. */
export async function send(route, { method = "GET", body, accept = "application/json", headers = {}, signal, keepalive = false } = {}) {
  for (;;) {
    const used = key();
    const response = await fetch(address(route), {
      method,
      signal,
      keepalive,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      headers: {
        Accept: accept,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(used ? { Authorization: `Bearer ${used}` } : {}),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.ok) return response;
    const error = await errorOf(response);
    if (error.status !== 401) throw error;
    // Another request's question may have been answered meanwhile.
    if (key() === used && !(await askForKey(used ? "The server does not know this key." : error.message))) throw error;
  }
}

export async function json(route, options) {
  const response = await send(route, options);
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

async function errorOf(response) {
  const text = await response.text().catch(() => "");
  return new ServerError(
    messageIn(text) || `The server answered ${response.status} ${response.statusText}.`,
    response.status,
    response.headers.get("X-Request-Id") ?? "",
    response.headers.get("Retry-After") ?? "",
  );
}

function messageIn(text) {
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? error : (error?.message ?? "");
  } catch {
    return text.startsWith("<") ? "" : text.slice(0, 300); // A proxy's HTML is not for a person.
  }
}

/** Return a sentence about a failure, for a person. */
export function explain(error) {
  if (error instanceof ServerError) {
    const next = error.status === 503 && error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
    return ended(error.message) + next;
  }
  if (error instanceof TypeError) return "The server can't be reached.";
  return ended(error.message);
}

const ended = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);
