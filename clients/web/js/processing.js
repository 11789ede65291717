/**
 * A video on its way: asked for, uploaded, watched while its masks arrive, and shown beside the original at the end.
 */

import { part } from "./dom.js";
import { FileJob } from "./job.js";
import * as messages from "./messages.js";
import { clock } from "./times.js";
import { filePrompts, flags, outside } from "./video-prompts.js";

/**
 * @typedef {object} Parts of the tab
 * @property {import("./workspace.js").Workspace} workspace
 * @property {import("./player.js").Player} player
 * @property {import("./process-card.js").ProcessCard} card
 * @property {import("./compare.js").Compare} compare
 *
 * @typedef {object} ProcessingHooks
 * @property {() => void} onBegin
 * @property {() => void} onEnd
 * @property {() => void} onChange
 * @property {(state: import("./connection.js").ConnectionState, why: string) => void} onState
 */

export class Processing {
  /**
   * @param {HTMLElement} host
   * @param {import("./main.js").Page} page
   * @param {Parts} parts
   * @param {ProcessingHooks} hooks
   */
  constructor(host, page, { workspace, player, card, compare }, hooks) {
    this.host = host;
    this.page = page;
    this.workspace = workspace;
    this.player = player;
    this.card = card;
    this.compare = compare;
    this.hooks = hooks;
    this.stem = "video";
    /** @type {FileJob | null} */
    this.job = null;
    /** Whether the files that are offered came from the prompts and options as they are now. */
    this.upToDate = false;
    this.stopped = false;
    /** @type {any} the newest result that was not shown yet */
    this.arrived = null;
    this.showing = false;
    /** @type {number | null} */
    this.firstS = null;
    this.lastS = 0;
    compare.onGone = () => this.gone();
  }

  /**
   * @param {File} file
   * @param {{width: number, height: number}} size in the server's pixels
   */
  begin(file, { width, height }) {
    if (this.job) return;
    const { card, hooks, page } = this;
    const objects = this.workspace.objects.all();
    const left = outside(objects, card.startS, card.endS);
    if (left) return page.notices.show("video", left);
    page.notices.hide("video");
    hooks.onBegin();
    this.player.pause();
    this.clearResult();
    this.stem = file.name.replace(/\.[^.]*$/, "") || "video";
    this.firstS = this.arrived = null;
    this.lastS = 0;
    this.stopped = false;
    const start = { masks: "rle", prompts: filePrompts(objects, width, height), ...card.fields() };
    this.job = new FileJob(page.server, file, start, {
      onUpload: (bytes) => {
        card.setPhase(bytes < file.size ? "uploading" : "processing");
        card.showUpload(bytes, file.size);
      },
      onProgress: (progress) => {
        card.setPhase("processing");
        if (!this.stopped) card.showProgress(progress);
      },
      onResult: (result) => this.result(result),
      onProblem: (words) => page.notices.show("video", words),
      onDone: (done) => void this.done(done),
      onFailed: (words) => this.failed(words),
      onState: hooks.onState,
    });
    card.setPhase("uploading");
    card.showUpload(0, file.size);
    this.lock(true);
    this.workspace.objects.show(null);
    part(this.host, "cancel").focus({ preventScroll: true });
  }

  /** Another video is taken. */
  forget() {
    this.job?.abandon();
    this.job = null;
    this.clearResult();
    this.lock(false);
  }

  clearResult() {
    this.player.follow(null, 0);
    this.compare.hide();
    this.card.showFiles([], "");
    this.upToDate = false;
  }

  /**
   * While a video is processed nothing else can be done with it.
   * @param {boolean} locked
   */
  lock(locked) {
    for (const name of ["transport", "toolbar", "objects"]) part(this.host, name).inert = locked;
    this.workspace.stage.element.setAttribute("aria-busy", String(locked));
  }

  /** @param {any} result */
  result(result) {
    this.firstS ??= result.time_s;
    this.lastS = result.time_s;
    this.arrived = result;
    if (!this.showing) void this.showArrived();
  }

  /** Shows the newest result on its own frame, then the one that is the newest by then. */
  async showArrived() {
    this.showing = true;
    while (this.job && this.arrived) {
      const { job, arrived } = this;
      this.arrived = null;
      if (this.host.hidden) break;
      await this.player.seekFrame(arrived.time_s);
      if (this.job !== job) break;
      this.workspace.stage.drawPicture(this.player.video);
      this.workspace.objects.show(arrived);
      this.workspace.stage.element.dataset.index = String(arrived.index);
    }
    this.showing = false;
  }

  /** Ends early. What is done is kept; of an upload nothing is. */
  stop() {
    const { job } = this;
    if (!job) return;
    const uploading = job.phase === "uploading";
    this.stopped = true;
    job.stop();
    if (!uploading) return this.card.say("Stopping", "Writing what is done …");
    this.end();
    this.hooks.onState("closed", "");
    this.card.button.focus({ preventScroll: true });
  }

  end() {
    this.job = null;
    this.card.setPhase("idle");
    this.lock(false);
    this.hooks.onEnd();
    this.hooks.onChange();
  }

  /** @param {string} words */
  failed(words) {
    this.end();
    this.page.notices.show("video", words);
    this.card.button.focus({ preventScroll: true });
  }

  /** @param {import("./job.js").Done} done */
  async done({ frames, files = [], problems = [] }) {
    const { card, compare, player, stopped } = this;
    this.upToDate = !stopped;
    this.end();
    if (!files.length) return this.page.notices.show("video", messages.NOTHING_DONE);
    const words = stopped ? `Stopped at ${clock(this.lastS)}, ${frames} frames done.` : `${frames} frames done.`;
    card.showFiles(files.map((file) => this.offered(file)), [words, ...problems.map(messages.problem)].join(" "));
    this.hooks.onChange();
    /** @type {HTMLElement | null} */ (this.host.querySelector("[data-part=file-list] a"))?.focus({ preventScroll: true });
    const overlay = files.find(isVideo);
    if (!overlay || !(await compare.show(address(overlay.url)))) return;
    player.follow(compare.video, this.firstS ?? 0);
    const clicked = flags(this.workspace.objects.all())[0]?.timeS ?? 0;
    await player.seekFrame(Math.max(clicked, this.firstS ?? 0));
  }

  /** @param {import("./job.js").ResultFile} file */
  offered(file) {
    const ending = file.name.slice(file.name.lastIndexOf("."));
    const [label, name] = isVideo(file)
      ? ["Video with masks", `${this.stem}-overlay${ending}`]
      : [`Masks (${ending.slice(1).toUpperCase()})`, `${this.stem}-masks${ending}`];
    return { url: address(file.url), name, label, bytes: file.bytes };
  }

  /** The result can no longer be fetched. */
  gone() {
    this.clearResult();
    this.page.notices.show("video", messages.RESULT_GONE);
    this.hooks.onChange();
  }
}

/** @param {import("./job.js").ResultFile} file */
export function isVideo({ media_type }) {
  return media_type.startsWith("video/");
}

/**
 * The address of a file of the server, wherever this page lies on it.
 * @param {string} url
 */
export function address(url) {
  return new URL(url.replace(/^\//, ""), document.baseURI).href;
}
