// Calls of the API from a page, with the key of who signed in. Every change may be repeated: it has a key of its own.

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
