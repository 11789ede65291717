/**
 * The card beside the video: what is to be done, how far it is, and the files at the end.
 */

import { fromTemplate, icon, part, setText } from "./dom.js";
import { FollowSwitch } from "./follow-switch.js";
import { sizeOf } from "./messages.js";
import { clock, duration, justBefore, within } from "./times.js";

/** @typedef {"idle" | "uploading" | "processing"} Phase */

/**
 * @typedef {object} CardHooks
 * @property {() => void} onProcess
 * @property {() => void} onStop
 * @property {() => number} now the moment that is shown
 * @property {() => void} onChange the options are others
 */

export class ProcessCard {
  /**
   * @param {HTMLElement} host
   * @param {HTMLElement} side
   * @param {CardHooks} hooks
   */
  constructor(host, side, hooks) {
    this.host = host;
    side.append(fromTemplate("video-process-template"));
    this.card = part(host, "process-card");
    this.button = part(host, "process");
    this.options = part(host, "options");
    this.work = part(host, "work");
    this.bar = part(host, "bar");
    this.stop = part(host, "cancel");
    this.files = part(host, "files");
    side.prepend(this.files);
    this.follow = new FollowSwitch(part(host, "follow-place"), "video", () => hooks.onChange());
    /** @type {number | null} */
    this.startS = null;
    /** @type {number | null} */
    this.endS = null;
    this.button.addEventListener("click", () => hooks.onProcess());
    this.stop.addEventListener("click", () => hooks.onStop());
    part(host, "from-here").addEventListener("click", () => {
      this.startS = hooks.now() || null;
      if (this.endS !== null && this.startS !== null && this.endS <= this.startS) this.endS = null;
      this.showPart();
      hooks.onChange();
    });
    part(host, "to-here").addEventListener("click", () => {
      this.endS = hooks.now() || null;
      if (this.startS !== null && this.endS !== null && this.endS <= this.startS) this.startS = null;
      this.showPart();
      hooks.onChange();
    });
    part(host, "whole").addEventListener("click", () => {
      this.startS = this.endS = null;
      this.showPart();
      hooks.onChange();
    });
    this.options.addEventListener("change", () => {
      part(host, "hold-row").hidden = part(host, "every").value === "1";
      hooks.onChange();
    });
    this.restart();
  }

  /** Another video: the part of it is all of it. */
  restart() {
    this.startS = this.endS = null;
    this.showPart();
    this.setPhase("idle");
    this.showFiles([], "");
    this.setNote("");
  }

  showPart() {
    const { startS, endS } = this;
    const words =
      startS === null && endS === null ? "The whole video" : `${clock(startS ?? 0)} to ${endS === null ? "the end" : clock(endS)}`;
    setText(part(this.host, "part-words"), words);
    part(this.host, "whole").hidden = startS === null && endS === null;
  }

  /** Fields of `start`. */
  fields() {
    const { host, startS, endS } = this;
    const every = Number(part(host, "every").value);
    const side = Number(part(host, "side-px").value);
    return {
      mode: this.follow.mode,
      sampling: { every, start_s: startS && justBefore(startS), end_s: endS && within(endS), hold: every > 1 && part(host, "hold").checked },
      video: {
        container: part(host, "container").value,
        quality: Number(part(host, "quality").value),
        max_side_px: side || null,
      },
    };
  }

  /**
   * @param {string} label
   * @param {boolean} possible
   * @param {boolean} done whether there is nothing new to process
   */
  setButton(label, possible, done) {
    setText(part(this.host, "process-label"), label);
    this.button.disabled = !possible;
    this.button.classList.toggle("primary", !done);
  }

  /** @param {string} words below the button; empty: none */
  setNote(words) {
    const note = part(this.host, "note");
    note.hidden = !words;
    setText(note, words);
  }

  /** @param {Phase} phase */
  setPhase(phase) {
    this.card.dataset.phase = phase;
    const idle = phase === "idle";
    part(this.host, "todo").hidden = !idle;
    this.work.hidden = idle;
    setText(part(this.host, "stop-label"), phase === "processing" ? "Stop here" : "Cancel");
    this.stop.title = phase === "processing" ? "What is done so far is kept" : "";
  }

  /**
   * @param {number} receivedBytes
   * @param {number} totalBytes
   */
  showUpload(receivedBytes, totalBytes) {
    this.setBar(receivedBytes / totalBytes);
    this.say("Uploading", `${sizeOf(receivedBytes)} of ${sizeOf(totalBytes)}`);
  }

  /** @param {import("./job.js").Progress} progress */
  showProgress({ frames, total, fps, eta_s, waiting }) {
    if (waiting) {
      this.setBar(null);
      this.say("Waiting", waiting === 1 ? "One video is before this one." : `${waiting} videos are before this one.`);
      return;
    }
    this.setBar(total ? Math.min(1, frames / total) : null);
    const counted = total ? `Frame ${frames} of ${total}` : `Frame ${frames}`;
    const speed = fps > 0 ? `${fps.toFixed(fps < 10 ? 1 : 0)} per second` : "";
    const left = eta_s === null || eta_s === undefined ? "" : `${duration(eta_s)} left`;
    this.say(left ? `Processing, ${left}` : "Processing", [counted, speed].filter(Boolean).join(" · "));
  }

  /** @param {number | null} share null: not known */
  setBar(share) {
    if (share === null) this.bar.removeAttribute("value");
    else this.bar.value = share;
  }

  /**
   * @param {string} words
   * @param {string} details
   */
  say(words, details) {
    setText(part(this.host, "work-words"), words);
    // The time that is left changes twice a second; nobody wants to hear that.
    setText(part(this.host, "work-said"), words.split(",")[0]);
    setText(part(this.host, "work-details"), details);
  }

  /**
   * @param {{url: string, name: string, label: string, bytes: number}[]} files
   * @param {string} words
   */
  showFiles(files, words) {
    this.files.hidden = files.length === 0;
    setText(part(this.host, "files-words"), words);
    part(this.host, "file-list").replaceChildren(
      ...files.map(({ url, name, label, bytes }) => {
        const link = document.createElement("a");
        link.className = "button wide";
        link.href = url;
        link.download = name;
        const size = document.createElement("span");
        size.className = "size";
        size.textContent = sizeOf(bytes);
        link.append(icon("download"), label, size);
        return link;
      }),
    );
  }
}
