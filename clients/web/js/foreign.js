/**
 * A video that this browser cannot play: the server makes a copy that it can, to click on.
 */

import { fromTemplate, part, setText } from "./dom.js";
import * as messages from "./messages.js";
import { address, isVideo } from "./processing.js";
import { duration } from "./times.js";

/**
 * @typedef {object} ForeignHooks
 * @property {(file: File, hooks: import("./job.js").JobHooks) => import("./job.js").FileJob} convert
 * @property {() => void} onOther
 * @property {(url: string, size: {width: number, height: number}) => void} onCopy size of the original
 * @property {(words: string) => void} onFailed
 * @property {(state: import("./connection.js").ConnectionState, why: string) => void} onState
 */

export class Foreign {
  /**
   * @param {HTMLElement} host
   * @param {ForeignHooks} hooks
   */
  constructor(host, hooks) {
    this.host = host;
    this.hooks = hooks;
    host.querySelector(".frame")?.append(fromTemplate("video-foreign-template"));
    this.panel = part(host, "foreign");
    this.bar = part(host, "converting-bar");
    /** @type {File | null} */
    this.file = null;
    /** @type {import("./job.js").FileJob | null} */
    this.job = null;
    part(host, "foreign-other").addEventListener("click", () => hooks.onOther());
    part(host, "convert").addEventListener("click", () => this.convert());
    part(host, "converting-cancel").addEventListener("click", () => this.setBusy(false));
  }

  /** @param {File} file */
  show(file) {
    this.file = file;
    setText(part(this.host, "foreign-name"), file.name);
    this.setBusy(false);
    this.panel.hidden = false;
    part(this.host, "convert").focus();
  }

  hide() {
    this.setBusy(false);
    this.panel.hidden = true;
    this.file = null;
  }

  /** @param {boolean} busy */
  setBusy(busy) {
    if (!busy) this.job?.abandon();
    if (!busy) this.job = null;
    part(this.host, "converting").hidden = !busy;
    for (const name of ["convert", "foreign-other"]) part(this.host, name).hidden = busy;
  }

  convert() {
    const { file } = this;
    if (!file) return;
    this.setBusy(true);
    this.say("Uploading …", 0);
    let size = { width: 1, height: 1 };
    this.job = this.hooks.convert(file, {
      onUpload: (bytes) => this.say(`Uploading, ${messages.sizeOf(bytes)} of ${messages.sizeOf(file.size)}`, bytes / file.size),
      onProgress: ({ frames, total, eta_s }) =>
        this.say(eta_s ? `Converting, ${duration(eta_s)} left` : "Converting …", total ? Math.min(1, frames / total) : null),
      onResult: ({ width, height }) => (size = { width, height }),
      onProblem: () => {},
      onDone: ({ files = [] }) => {
        const copy = files.find(isVideo);
        this.setBusy(false);
        if (copy) this.hooks.onCopy(address(copy.url), size);
        else this.hooks.onFailed(messages.NOTHING_DONE);
      },
      onFailed: (words) => {
        this.setBusy(false);
        this.hooks.onFailed(words);
      },
      onState: this.hooks.onState,
    });
  }

  /**
   * @param {string} words
   * @param {number | null} share
   */
  say(words, share) {
    setText(part(this.host, "converting-words"), words);
    if (share === null) this.bar.removeAttribute("value");
    else this.bar.value = share;
  }
}
