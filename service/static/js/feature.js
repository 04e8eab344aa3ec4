// The feature page: from one feature to the next by keys, and corrections of the label.

import { call, say } from "./service.js";

const KEYS = { ArrowLeft: "[", ArrowRight: "]" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.target.closest("input, textarea, select, dialog")) return;
  if (KEYS[event.key] && event.target.closest(".scroll")) return; // where arrows scroll
  const key = KEYS[event.key] ?? event.key;
  document.querySelector(`a[data-key="${CSS.escape(key)}"]`)?.click();
});

// What a link leads to is not to be closed.
function open() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let place = target; place; place = place.parentElement) if (place.tagName === "DETAILS") place.open = true;
  target.scrollIntoView();
  target.querySelector("textarea")?.focus({ preventScroll: true });
}
addEventListener("hashchange", open);

const form = document.querySelector("[data-edit]");
if (form) edit(form);
open();

function edit(form) {
  const path = form.dataset.edit;
  const conflict = form.querySelector(".conflict");
  let seen = form.dataset.seen ? Number(form.dataset.seen) : null;
  form.hidden = false;
  document.querySelector("[data-scripts-only]").remove();

  async function change(method, target, body) {
    try {
      await call(method, target, body);
      location.assign(location.pathname + location.search);
    } catch (problem) {
      if (problem.status !== 409) return say(problem.message, "bad");
      await show(problem);
    }
  }

  // Somebody else was faster: their text beside ours, and the choice between them.
  async function show(problem) {
    let theirs;
    try {
      theirs = (await call("GET", path)).label;
    } catch {
      return say(problem.message, "bad");
    }
    seen = theirs?.id ?? null;
    form.querySelector("[data-who]").textContent = theirs?.author ?? "Somebody";
    form.querySelector("[data-theirs]").textContent = theirs?.text ?? "(no label)";
    conflict.hidden = false;
    form.querySelector("[data-overwrite]").focus();
  }

  const said = (name) => form.elements[name].value.replace(/\s+/g, " ").trim();
  const save = () =>
    change("PUT", `${path}/label`, { text: said("text"), author: said("author") || null, note: said("note") || null, seen });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  form.querySelector("[data-overwrite]").addEventListener("click", () => form.reportValidity() && save());
  form.querySelector("[data-keep]").addEventListener("click", () => location.assign(location.pathname));
  form.querySelector("[data-withdraw]")?.addEventListener("click", () => change("DELETE", `${path}/label?seen=${seen}`));
}
