// Refreshing now, pausing, resuming and deleting a schedule.

import { asked } from "./page.js";
import { attempt, call, say, swap } from "./service.js";

const path = `/v1/schedules/${document.querySelector("[data-schedule]").dataset.schedule}`;

const AGAIN_MS = 2000;

async function now() {
  if (!(await attempt("POST", `${path}/refreshes`))) return;
  say("It is due: a worker looks for what is stale within seconds.");
  await follow();
}

// Shows what becomes of a refresh that is due, until a worker has begun with it.
async function follow() {
  do {
    await swap(location.href, ["#past"]).catch(() => {}); // the next look may be answered
    await new Promise((done) => setTimeout(done, AGAIN_MS));
  } while (document.querySelector("#past[data-due]"));
}

async function rest(paused) {
  if (!(await attempt("PATCH", path, { paused }))) return;
  say(paused ? "The schedule is paused." : "The schedule goes on.");
  await swap(location.href, ["#head"]).catch(() => location.reload());
  document.querySelector("#pause, #resume").focus({ preventScroll: true });
}

async function remove() {
  if (!(await asked(document.querySelector("#delete-dialog")))) return;
  try {
    await call("DELETE", path);
    location.assign("/schedules");
  } catch (problem) {
    say(problem.message, "bad");
  }
}

document.addEventListener("click", async (event) => {
  const act = event.target.closest("[data-act]")?.dataset.act;
  if (act === "now") await now();
  if (act === "pause" || act === "resume") await rest(act === "pause");
  if (act === "delete") await remove();
});

if (document.querySelector("#past[data-due]")) follow();
