/**
 * The card that says how fast it goes: three figures, and all the rest for those who open it.
 */

import { fromTemplate, part, setText } from "./dom.js";

/** @type {Record<string, string>} */
const STAGE_WORDS = {
  decode: "Unpacking the picture",
  queue: "Waiting for the model",
  segment: "Model",
  refine: "Cleaning the masks",
  encode: "Packing the masks",
  way: "Waiting its turn, network, page",
};

const DELAY = { name: "Delay", says: "From camera to mask: half of them come sooner" };
/** Where nobody knows when the camera took a picture. */
const SERVER_TIME = {
  name: "Time on the server",
  says: "What the server spends on a picture: half of them take less. When the camera took it, and how long it was on its way, is not known",
};

export class SpeedCard {
  /** @param {HTMLElement} place where it is put */
  constructor(place) {
    place.append(fromTemplate("speed-template"));
    this.place = place;
    this.more = part(place, "speed-more");
  }

  /**
   * @param {import("./stats.js").Stats} stats
   * @param {number} nowMs
   * @param {boolean} following whether frames are sent at all
   * @param {boolean} [estimated] whether the delay is no more than a guess
   */
  show(stats, nowMs, following, estimated = false) {
    this.label(stats.timed);
    const delay = (/** @type {number | null} */ ms) => (following ? milliseconds(ms, estimated) : "–");
    this.say("fps", following ? perSecond(stats.fps(nowMs)) : "–");
    this.say("delay", delay(stats.delayMs()));
    this.say("dropped", following ? String(stats.dropped) : "–");
    if (!this.more.open) return;
    this.say("camera-fps", perSecond(stats.camera.perSecond(nowMs)));
    this.say("sent-fps", following ? perSecond(stats.sent.perSecond(nowMs)) : "–");
    this.say("slow-delay", delay(stats.slowDelayMs()));
    this.showStages(following ? stats.stages() : []);
  }

  /** @param {boolean} timed whether it is known when pictures were taken */
  label(timed) {
    const words = timed ? DELAY : SERVER_TIME;
    const label = part(this.place, "delay-words");
    setText(label, words.name);
    label.title = words.says;
    setText(part(this.place, "slow-words"), `${words.name}, slowest 5 %`);
    part(this.place, "sent-row").hidden = !timed;
  }

  /** @param {{stage: string, ms: number}[]} stages */
  showStages(stages) {
    const list = part(this.place, "stages");
    list.hidden = stages.length === 0;
    const most = Math.max(...stages.map(({ ms }) => ms), 1);
    while (list.children.length > stages.length) list.lastElementChild?.remove();
    stages.forEach(({ stage, ms }, at) => {
      if (at >= list.children.length) list.append(fromTemplate("stage-time-template"));
      const row = /** @type {HTMLElement} */ (list.children[at]);
      setText(part(row, "stage-name"), STAGE_WORDS[stage] ?? stage);
      setText(part(row, "stage-ms"), ms < 10 ? `${ms.toFixed(1)} ms` : milliseconds(ms));
      row.style.setProperty("--share", String(ms / most));
    });
  }

  /** @param {string} name @param {string} words */
  say(name, words) {
    setText(part(this.place, name), words);
  }
}

/** @param {number | null} rate */
function perSecond(rate) {
  return rate === null ? "–" : rate.toFixed(1);
}

/** @param {number | null} ms @param {boolean} [estimated] */
function milliseconds(ms, estimated = false) {
  return ms === null ? "–" : `${estimated ? "~" : ""}${Math.round(ms)} ms`;
}
