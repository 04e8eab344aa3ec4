// Parts of a page that are rendered anew by the server, and put in place of the ones that are shown.

import { tell } from "./page.js";

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
