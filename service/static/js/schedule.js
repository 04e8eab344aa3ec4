// Pausing, resuming and deleting a schedule.

import { attempt, call, say } from "./api.js";
import { asked } from "./page.js";
import { swap } from "./swap.js";

const path = `/v1/schedules/${document.querySelector("[data-schedule]").dataset.schedule}`;

async function rest(paused) {
  if (!(await attempt("PATCH", path, { paused }))) return;
  say(paused ? "The schedule is paused." : "The schedule goes on.");
  await swap(location.href, ["#head"]).catch(() => location.reload());
  document.querySelector("[data-act]").focus({ preventScroll: true });
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
  if (act === "pause" || act === "resume") await rest(act === "pause");
  if (act === "delete") await remove();
});
