// What pages ask of the service: calls of its API, with the key of who signed in, and parts of pages that it renders anew.
// Every change may be repeated: it has a key of its own.

import { tell } from "./page.js";

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

// Returns what the API answers; throws a Problem that says what is wrong and what to do.
export async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method === "POST") headers["Idempotency-Key"] = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Problem(0, "The service does not answer. Nothing was changed here; try again.");
  }
  const text = await response.text();
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    throw new Problem(response.status, `The service answered ${response.status} in a form that this page does not know.`);
  }
  if (!response.ok) throw new Problem(response.status, answer?.detail ?? `The service answered ${response.status}.`);
  return answer;
}

// Says something at the foot of the page, to readers of screens too. kind: "good" or "bad".
export function say(text, kind = "good") {
  const place = document.querySelector(".said");
  const line = document.createElement("p");
  line.className = kind;
  line.textContent = text;
  place.replaceChildren(line);
  clearTimeout(say.timer);
  if (kind === "good") say.timer = setTimeout(() => line.remove(), 6000);
}

// Calls and says what went wrong, if something did; returns undefined then.
export async function attempt(method, path, body) {
  try {
    return await call(method, path, body);
  } catch (problem) {
    say(problem.message, "bad");
    return undefined;
  }
}

const latest = new Map();

// Fetches a page and shows its elements with these selectors in place of this one's. Returns whether it did: false
// when a later call for the same elements overtook this one. Throws when the server does not answer, and with
// its status when it says no.
export async function swap(url, selectors) {
  const places = selectors.join();
  const mine = (latest.get(places) ?? 0) + 1;
  latest.set(places, mine);
  const response = await fetch(url, { headers: { Accept: "text/html" } });
  if (!response.ok) throw Object.assign(new Error(`The service answered ${response.status}.`), { status: response.status });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  if (mine !== latest.get(places)) return false;
  for (const selector of selectors) {
    const old = document.querySelector(selector);
    const fresh = page.querySelector(selector);
    if (!old || !fresh) continue;
    for (const time of fresh.querySelectorAll("time[datetime]")) tell(time);
    keepOpen(old, fresh);
    old.replaceWith(fresh);
  }
  document.dispatchEvent(new Event("swapped"));
  return true;
}

// What a reader has opened stays open, and what they are at keeps the keyboard.
function keepOpen(old, fresh) {
  for (const details of old.querySelectorAll("details[id]")) {
    const same = fresh.querySelector(`#${CSS.escape(details.id)}`);
    if (same) same.open = details.open;
  }
  const at = document.activeElement;
  if (at?.id && old.contains(at)) {
    queueMicrotask(() => document.getElementById(at.id)?.focus({ preventScroll: true }));
  }
}
