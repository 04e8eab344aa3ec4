// Pausing, resuming and cancelling a run. What is shown is swapped, so clicks are heard on the whole page.

import { asked } from "./page.js";
import { attempt, say, swap } from "./service.js";

const places = [...document.querySelectorAll("[data-run]")].map((place) => `#${place.id}`);
const id = document.querySelector("[data-run]").dataset.run;
const DONE = { pause: "The run is paused.", resume: "The run goes on.", cancel: "The run is cancelled." };

// The button that was pressed gives way to another: whoever is at the keyboard goes on there.
let pressed = false;
document.addEventListener("swapped", () => {
  if (!pressed || document.activeElement !== document.body) return;
  pressed = false;
  document.querySelector("#actions button")?.focus({ preventScroll: true });
});

async function change(what, body) {
  if (await attempt("POST", `/v1/runs/${id}/${what}`, body)) {
    say(DONE[what]);
    pressed = true;
    await swap(location.href, places).catch(() => {}); // live.js says so, and tries again
  }
}

async function resume(button) {
  if (!("asks" in button.dataset)) return change("resume");
  const dialog = document.querySelector("#resume-dialog");
  if (!(await asked(dialog))) return;
  const given = Object.fromEntries(new FormData(dialog.querySelector("form")));
  const budget = Object.fromEntries(Object.entries(given).filter(([, text]) => text).map(([name, text]) => [name, Number(text)]));
  await change("resume", Object.keys(budget).length ? { budget } : {});
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  if (button.dataset.act === "pause") await change("pause");
  if (button.dataset.act === "resume") await resume(button);
  if (button.dataset.act === "cancel" && (await asked(document.querySelector("#cancel-dialog")))) await change("cancel");
});
