// Tokens and features that are pointed at: one shows its features, the other where it fires. What is shown is read from
// the tables beside them.

const SHADES = 9;
const LINES = 5;

const tokens = () => [...document.querySelectorAll("#tokens > .token")];
const at = () => document.getElementById("at");

let kept = null; // the token or row that was clicked

// [{index, activation}] of a token, from its row of the table.
function featuresOf(token) {
  const row = document.getElementById(token.getAttribute("href").slice(1));
  return [...row.cells[2].querySelectorAll("a")].map((link) => ({
    index: link.textContent,
    href: link.href,
    activation: link.nextElementSibling.textContent,
  }));
}

function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

function line({ index, href, activation }) {
  const link = element("a", "", index);
  link.href = href;
  const label = document.querySelector(`#f${index} .label .clipped`);
  const copy = element("span", "", ...(label ? label.cloneNode(true).childNodes : ["–"]));
  return element("li", "", link, element("span", "n", activation), copy);
}

function tell(token) {
  const found = featuresOf(token);
  const head = element("p", "quiet", "on ", element("span", "token", ...token.cloneNode(true).childNodes));
  if (!found.length) head.append(": nothing fires");
  const more = found.length > LINES ? [element("p", "quiet", `and ${found.length - LINES} more, token by token below`)] : [];
  at().replaceChildren(head, element("ol", "", ...found.slice(0, LINES).map(line)), ...more);
}

function paint(shade) {
  for (const token of tokens()) token.className = `token a${shade(token)}${token === kept ? " kept" : ""}`;
}

// Shades the tokens by one feature alone; the scale is what the feature's row says.
function follow(row) {
  const index = row.id.slice(1);
  const scale = Number(row.dataset.scale);
  paint((token) => {
    const found = featuresOf(token).find((one) => one.index === index);
    return found ? Math.max(1, Math.min(SHADES, Math.round((SHADES * Number(found.activation)) / scale))) : 0;
  });
}

const own = new WeakMap();

function rest() {
  paint((token) => own.get(token));
}

function remember() {
  kept = null;
  const found = tokens();
  for (const token of found) {
    own.set(token, /\ba(\d)\b/.exec(token.className)?.[1] ?? "0");
    token.tabIndex = -1;
  }
  if (found[0]) found[0].tabIndex = 0;
}

function keep(thing) {
  for (const one of document.querySelectorAll(".kept")) one.classList.remove("kept");
  kept = kept === thing ? null : thing;
  kept?.classList.add("kept");
}

function point(thing) {
  if (!thing || (kept && kept !== thing)) return;
  if (thing.matches("tr")) follow(thing);
  else tell(thing);
}

const pointed = (target) => target.closest?.("#tokens > .token, table.fired tbody tr");

function move(event) {
  const found = tokens();
  const here = found.indexOf(event.target);
  if (here < 0) return;
  const there = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: found.length - 1 }[event.key];
  if (found[there] === undefined) return;
  event.preventDefault();
  found[here].tabIndex = -1;
  found[there].tabIndex = 0;
  found[there].focus();
}

export function watchTokens() {
  document.addEventListener("mouseover", ({ target }) => point(pointed(target)));
  document.addEventListener("focusin", ({ target }) => point(pointed(target)));
  document.addEventListener("mouseout", ({ target }) => {
    if (!kept && pointed(target)?.matches("tr")) rest();
  });
  document.addEventListener("click", (event) => {
    const thing = pointed(event.target);
    if (!thing || (thing.matches("tr") && event.target.closest("a, button"))) return;
    event.preventDefault();
    rest();
    keep(thing);
    point(thing);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && kept) keep(kept);
    move(event);
  });
  document.addEventListener("swapped", () => {
    if (kept && !kept.isConnected) kept = null;
    if (tokens()[0] && !own.has(tokens()[0])) remember();
  });
  if (tokens().length) remember();
}
