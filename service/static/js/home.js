// Runs in progress, rendered anew every two seconds while there are some and somebody looks. No stream is held open:
// browsers allow a server few connections, and many tabs show this page.

import { swap } from "./service.js";

const AGAIN_MS = 2000;
const lost = document.querySelector("[data-connection]");

const live = () => document.querySelector("#running[data-live]")?.dataset.live;

async function refresh() {
  const before = live();
  if (document.hidden || !before) return;
  try {
    await swap(location.href, ["#running"]);
    if (live() !== before) await swap(location.href, ["#dictionaries"]);
    lost.hidden = true;
  } catch {
    lost.textContent = "The service does not answer; what is shown may be old. Trying again …";
    lost.hidden = false;
  }
}

async function goOn() {
  await refresh();
  if (live()) setTimeout(goOn, AGAIN_MS);
}

document.addEventListener("visibilitychange", refresh);
if (live()) setTimeout(goOn, AGAIN_MS);
