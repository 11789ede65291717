/**
 * The lane below the scrub bar: the frames with clicks, and the part that is processed.
 */

import { cssColor } from "./palette.js";
import { clock } from "./times.js";
import { flags } from "./video-prompts.js";

/**
 * @param {HTMLElement} lane
 * @param {import("./objects.js").SegObject[]} objects
 * @param {{startS: number | null, endS: number | null, durationS: number}} span
 * @param {(timeS: number) => void} go
 */
export function showLane(lane, objects, { startS, endS, durationS }, go) {
  /** @param {number} timeS */
  const share = (timeS) => String(durationS ? Math.min(1, timeS / durationS) : 0);
  /** @type {HTMLElement[]} */
  const shown = flags(objects).map(({ id, name, timeS }) => {
    const flag = document.createElement("button");
    flag.type = "button";
    flag.className = "flag";
    flag.style.setProperty("--at", share(timeS));
    flag.style.setProperty("--color", cssColor(id));
    flag.title = `${name}, clicked at ${clock(timeS)}`;
    flag.setAttribute("aria-label", `Go to ${clock(timeS)}, where ${name} was clicked`);
    flag.addEventListener("click", () => go(timeS));
    return flag;
  });
  if (startS !== null || endS !== null) {
    const span = document.createElement("span");
    span.className = "span";
    span.style.setProperty("--from", share(startS ?? 0));
    span.style.setProperty("--to", share(endS ?? durationS));
    shown.unshift(span);
  }
  lane.replaceChildren(...shown);
}
