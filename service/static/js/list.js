// A list that follows its form: as one types, the rows are rendered anew, and the address says what is shown.
//
//   <form data-follow="#results">   an input with data-least is waited for until it has so many characters, or none
//   <a data-row>                    of each row: j and k go from one to the next, Enter opens it as any link
//   <input data-search>             / goes there, Escape leaves it
//   <section data-part="PATH">      is loaded from there when the rest of the page is shown; a part of a scatter in it that
//                                   is picked becomes filters
//   <p data-tells role="status">    tells readers of screens what the element with data-told in the results says

import { say, swap } from "./service.js";

const WAIT_MS = 200;
const form = document.querySelector("form[data-follow]");
const search = form.querySelector("[data-search]");

function address() {
  const asked = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value !== "") asked.append(name, value);
  if (asked.get("sort") === "index") asked.delete("sort");
  const query = asked.toString();
  return query ? `${location.pathname}?${query}` : location.pathname;
}

async function follow() {
  const url = address();
  try {
    if (!(await swap(url, [form.dataset.follow]))) return;
    history.replaceState(null, "", url);
    document.querySelector("[data-tells]").textContent = document.querySelector("[data-told]")?.textContent ?? "";
  } catch (problem) {
    say(problem.message, "bad");
  }
}

const isShort = () => search.value !== "" && search.value.length < Number(search.dataset.least ?? 1);

let due;
form.addEventListener("input", (event) => {
  clearTimeout(due);
  if (event.target === search && isShort()) return;
  due = setTimeout(follow, event.target.matches("input:not([type=checkbox])") ? WAIT_MS : 0);
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(due);
  follow();
});

function step(by) {
  const rows = [...document.querySelectorAll("a[data-row]")];
  const at = rows.findIndex((row) => row.closest("tr").contains(document.activeElement));
  const next = at < 0 ? rows[by > 0 ? 0 : rows.length - 1] : rows[at + by];
  next?.focus();
  next?.closest("tr").scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "/") {
    event.preventDefault();
    search.focus();
    search.select();
  }
});

// What a scatter shows along each axis, as the form names it.
const SIDES = { x: "input_lift", y: "output_lift" };

document.addEventListener("chart-pick", ({ detail }) => {
  for (const [axis, side] of Object.entries(SIDES)) {
    form.elements[`min_${side}`].value = detail[`${axis}Min`].toFixed(3);
    form.elements[`max_${side}`].value = detail[`${axis}Max`].toFixed(3);
  }
  follow();
});

for (const place of document.querySelectorAll("[data-part]")) {
  swap(place.dataset.part, [`#${place.id}`]).catch((problem) => say(problem.message, "bad"));
}
