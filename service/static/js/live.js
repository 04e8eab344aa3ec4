// A run as it changes: the server says that it did, and the parts of the page are rendered anew.
//
//   <section id="progress" data-run="ID">…</section>     each element with data-run is swapped
//   <p data-connection hidden></p>                        says when the connection is lost

import { swap } from "./service.js";

const places = [...document.querySelectorAll("[data-run]")].map((place) => `#${place.id}`);
const run = document.querySelector("[data-run]")?.dataset.run;
const lost = document.querySelector("[data-connection]");
const AGAIN_MS = 2000;

let busy = false;
let due = false;

async function refresh() {
  due = true;
  if (busy) return;
  busy = true;
  while (due) {
    due = false;
    try {
      await swap(location.href, places);
      show("");
    } catch {
      show("The service does not answer; what is shown may be old. Trying again …");
      await new Promise((done) => setTimeout(done, AGAIN_MS));
      due = true;
    }
  }
  busy = false;
}

function show(text) {
  if (!lost) return;
  lost.hidden = !text;
  lost.textContent = text;
}

function follow() {
  const events = new EventSource(`/v1/runs/${run}/events`);
  let state = null;
  events.addEventListener("open", () => show(""));
  events.addEventListener("run", (event) => {
    state = JSON.parse(event.data).state;
    refresh();
    if (["done", "failed", "cancelled"].includes(state)) events.close();
  });
  events.addEventListener("gone", () => {
    events.close();
    show("This run was deleted.");
  });
  events.addEventListener("error", () => {
    show("The connection is lost; what is shown may be old. Trying again …");
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, AGAIN_MS);
  });
}

if (run) follow();
