// The scatter is loaded when the rest of the page is there; a part of it that is picked becomes filters of the list.

import { say } from "./api.js";
import { swap } from "./swap.js";

const SIDES = { x: "input_lift", y: "output_lift" };
const form = document.querySelector("form[data-follow]");
const place = document.querySelector("#scatter[data-part]");

document.addEventListener("chart-pick", ({ detail }) => {
  for (const [axis, side] of Object.entries(SIDES)) {
    form.elements[`min_${side}`].value = detail[`${axis}Min`].toFixed(3);
    form.elements[`max_${side}`].value = detail[`${axis}Max`].toFixed(3);
  }
  form.elements.min_input_lift.dispatchEvent(new Event("input", { bubbles: true }));
});

if (place) swap(place.dataset.part, ["#scatter"]).catch((problem) => say(problem.message, "bad"));
