// The playground asks for trials and names them in the address; the server renders how they stand, until they are over.

import { call, say, swap } from "./service.js";
import { watchTokens } from "./tokens.js";

const LONGEST = 2000; // characters of a text that a link may hold; a longer one is in its trial, for a day
const MOST_PICKED = 4; // as the page says
const FIRST_MS = 250;
const SLOWEST_MS = 2000;
const $ = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];

const dictionary = $("#read").elements.dictionary.value;
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const picked = () => all("[data-picked]").map((one) => Number(one.dataset.picked));
const trialsOf = (place) => [...new Set(all(`${place} [data-trial]`).map((one) => one.dataset.trial))];

function numbers(text) {
  const parts = text.replaceAll("\u2212", "-").split(/[\s,;]+/).filter(Boolean);
  const wrong = parts.find((part) => Number.isNaN(Number(part)));
  if (wrong !== undefined) throw new Error(`"${wrong}" is no number. Strengths are numbers such as 0.5 or -1, with commas between them.`);
  if (!parts.length) throw new Error("Say how strongly: one to eight numbers, such as 0.5, -0.5.");
  return parts.map(Number);
}

// The address that shows what the page shows, with other features or trials where they are given.
function address({ features = picked(), read = trialsOf("#reading"), steered = trialsOf("#steered") } = {}) {
  const { text, k } = $("#read").elements;
  const fields = $("#steer").elements;
  const state = new URLSearchParams({ dictionary });
  if (text.value && text.value.length <= LONGEST) state.set("text", text.value);
  if (k.value !== "5") state.set("k", k.value);
  for (const feature of features) state.append("feature", feature);
  if (fields.prompt.value && fields.prompt.value.length <= LONGEST) state.set("prompt", fields.prompt.value);
  if (features.length) {
    for (const name of ["strengths", "unit", "n_tokens", "seed", "temperature"]) state.set(name, fields[name].value);
  }
  for (const id of [...read, ...steered]) state.append("trial", id);
  return `/playground?${state}`;
}

// What the API finds wrong, without where in the request: the names of the fields are those of the page.
const plainly = (text) => text.replace(/^body(?:\.([a-z_]+))?[^:]*: (?:Value error, )?/, (_, field) => (field ? `${field}: ` : ""));

function complain(form, text) {
  const place = form.querySelector("[data-problem]");
  if (place) {
    place.textContent = text;
    place.hidden = !text;
  } else if (text) say(text, "bad");
}

let shown = location.search;

async function show(url, places, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", url);
  shown = location.search;
  while (!(await patiently(() => swap(location.href, places)))); // a look at a trial may have overtaken this one
  mark();
}

// Looks until the service answers, and says that it does not; what it says no to is thrown.
async function patiently(look) {
  for (let lost = false; ; ) {
    try {
      const found = await look();
      if (lost) say("The service answers again.");
      return found;
    } catch (problem) {
      if (problem.status && problem.status < 500) throw problem;
      if (!lost) say("The service does not answer. What you asked for goes on there; trying again …", "bad");
      lost = true;
      await wait(SLOWEST_MS);
    }
  }
}

const turns = {};

// Looks at the trials of a place until all are over, or others are looked at there.
async function follow(place) {
  const turn = (turns[place] = (turns[place] ?? 0) + 1);
  let pause = FIRST_MS;
  while (turns[place] === turn && $(`${place} [data-under-way]`)) {
    await wait(pause);
    pause = Math.min(1.3 * pause, SLOWEST_MS);
    try {
      await patiently(() => swap(location.href, [place]));
    } catch (problem) {
      say(problem.message, "bad");
      return;
    }
  }
  mark();
}

async function ask(path, body) {
  return (await call("POST", `/v1/dictionaries/${dictionary}/${path}?wait=0`, body)).id;
}

const asks = {
  async read(form, options) {
    const { text, k } = form.elements;
    if (!text.value) throw new Error("Type a text first: a sentence or two.");
    const id = await ask("activations", { text: text.value, k: Number(k.value) });
    await show(address({ read: [id] }), ["#reading"], options);
    follow("#reading");
  },

  async steer(form, options) {
    const fields = form.elements;
    if (!picked().length) throw new Error("Pick a feature first: one that fires on your text, or by its index.");
    if (!fields.prompt.value) throw new Error("Type a prompt first: the start of a sentence.");
    const body = { prompt: fields.prompt.value, strengths: numbers(fields.strengths.value), unit: fields.unit.value };
    for (const name of ["n_tokens", "seed", "temperature"]) body[name] = Number(fields[name].value);
    const steered = [];
    for (const feature of picked()) steered.push(await ask(`features/${feature}/steer`, body));
    await show(address({ steered }), ["#steered"], options);
    follow("#steered");
  },

  async pick(form) {
    const { value } = form.elements.feature;
    if (!/^\d{1,10}$/.test(value)) throw new Error("Name a feature by its index, a whole number.");
    await pick(Number(value));
    $("#feature")?.focus();
  },
};

async function pick(feature) {
  if (picked().includes(feature)) return;
  await show(address({ features: [...picked(), feature] }), ["#picked"], { replace: true });
}

async function run(form, options) {
  if (form.dataset.busy) return;
  form.dataset.busy = "yes";
  complain(form, "");
  try {
    await asks[form.dataset.ask](form, options);
  } catch (problem) {
    complain(form, plainly(problem.message));
  } finally {
    delete form.dataset.busy;
  }
}

// What is picked already can't be picked again.
function mark() {
  const known = picked();
  for (const button of all("[data-pick]")) button.disabled = known.length >= MOST_PICKED || known.includes(Number(button.dataset.pick));
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.ask) return;
  event.preventDefault();
  run(event.target);
});

document.addEventListener("click", async ({ target }) => {
  const { pick: index, drop, cancel } = target.dataset;
  try {
    if (index !== undefined) {
      await pick(Number(index));
      say(`Feature ${index} is picked, below.`);
    } else if (drop !== undefined) {
      await show(address({ features: picked().filter((one) => one !== Number(drop)) }), ["#picked"], { replace: true });
      $("#feature")?.focus();
    } else if (cancel !== undefined) {
      await call("POST", `/v1/trials/${cancel}/cancel`);
    }
  } catch (problem) {
    say(problem.message, "bad");
  }
});

const unit = $("#unit");
unit.addEventListener("change", () => {
  for (const one of all("[data-unit]")) one.hidden = one.dataset.unit !== unit.value;
  $("#strengths").value = unit.selectedOptions[0].dataset.strengths;
});
$("#text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("#read").requestSubmit();
});
addEventListener("popstate", () => {
  if (location.search !== shown) location.reload(); // and not for a place within the page
});

watchTokens();
mark();
follow("#reading");
follow("#steered");
if ($("#reading").dataset.now) await run($("#read"), { replace: true });
if ($("#steered").dataset.now) await run($("#steer"), { replace: true });
