/**
 * The tab Video: a recorded file. It is played and clicked on here, processed on the server, and the result plays
 * beside it.
 */

import { Compare } from "./compare.js";
import { HEAD_BYTES, sniff } from "./containers.js";
import { fromTemplate, part } from "./dom.js";
import { Foreign } from "./foreign.js";
import { fitted } from "./frames.js";
import { FileJob } from "./job.js";
import { showLane } from "./lane.js";
import * as messages from "./messages.js";
import { describe } from "./object-list.js";
import { DEFAULT_MOST_OBJECTS } from "./objects.js";
import { Player } from "./player.js";
import { Preview } from "./preview.js";
import { ProcessCard } from "./process-card.js";
import { Processing } from "./processing.js";
import { clock } from "./times.js";
import { marksAt } from "./video-prompts.js";
import { Workspace } from "./workspace.js";

/** Long side to which the stage draws the frames, and of the frames that are sent for a preview. */
const SHOWN_SIDE = 1280;

/** @typedef {import("./objects.js").Mark} Mark */

export class VideoTab {
  name = "video";

  /**
   * @param {HTMLElement} host
   * @param {import("./main.js").Page} page
   */
  constructor(host, page) {
    this.host = host;
    this.page = page;
    /** @type {File | null} */
    this.file = null;
    this.url = "";
    /** In the server's pixels. */
    this.size = { width: 1, height: 1 };
    /** @type {Map<number, any>} results of previews, by the frame's time */
    this.previews = new Map();
    this.turn = 0;
    this.workspace = new Workspace(
      host,
      {
        label: "Frame of the video. Click an object to select it. Enter clicks in the middle, arrow keys then move the pointer.",
        hint: "Click an object on any frame",
        emptyWords: "Nothing selected yet.",
        showMarks: true,
        refusal: () => this.refusal(),
        onMark: (object, mark) => this.marked(object, mark),
        onUndo: (object, mark) => this.undone(object, mark),
        onRemove: (id) => this.removed(id),
        onClear: () => this.cleared(),
        onSave: null,
        describe: (object) => this.describe(object),
      },
      page.notices,
    );
    const { stage } = this.workspace;
    stage.keysAreTaken = true;
    stage.showsMark = (mark) => mark.timeS === this.player.shownS && !this.processing.job;
    this.preview = new Preview(page.server, {
      marksAt: (timeS) => marksAt(this.workspace.objects.all(), timeS),
      onResult: (timeS, result) => this.previewed(timeS, result),
      onError: (error, request, mark) => this.previewFailed(error, request, mark),
      onState: (state, why) => this.connectionChanged(state, why),
    });
    this.furnish();
    this.player = new Player(host, stage.element, {
      onFrame: () => this.frameShown(),
      onBroken: () => {
        this.forget();
        page.notices.show("video", messages.VIDEO_BROKEN);
      },
    });
    const { card, player, workspace } = this;
    this.processing = new Processing(host, page, { workspace, player, card, compare: new Compare(host) }, {
      onBegin: () => this.preview.close(),
      onEnd: () => {
        this.frameShown();
        this.showPreview();
      },
      onChange: () => this.refresh(),
      onState: (state, why) => this.connectionChanged(state, why),
    });
    this.foreign = new Foreign(host, {
      convert: (file, hooks) => new FileJob(page.server, file, COPY, hooks),
      onOther: () => this.forget(),
      onCopy: (url, size) => void this.play(url, size),
      onState: (state, why) => this.connectionChanged(state, why),
      onFailed: (words) => page.notices.show("video", words),
    });
  }

  furnish() {
    const { host, workspace } = this;
    part(host, "welcome").append(fromTemplate("video-welcome-template"));
    part(host, "actions").append(fromTemplate("video-actions-template"));
    workspace.toolbar.before(fromTemplate("video-transport-template"));
    workspace.stage.element.append(fromTemplate("video-original-template"));
    this.transport = part(host, "transport");
    this.card = new ProcessCard(host, workspace.side, {
      onProcess: () => this.file && this.processing.begin(this.file, this.size),
      onStop: () => this.processing.stop(),
      now: () => this.player.shownS,
      onChange: () => this.changed(),
    });
    const chooser = part(host, "file");
    chooser.addEventListener("change", () => {
      if (chooser.files[0]) void this.open(chooser.files[0]);
      chooser.value = "";
    });
    part(host, "sample").addEventListener("click", () => void this.openSample());
    part(host, "other").addEventListener("click", () => this.forget());
    addEventListener("beforeunload", (event) => {
      if (this.processing.job) event.preventDefault();
    });
  }

  /** The server said what it offers. */
  informed() {
    part(this.host, "sample").hidden = !this.page.server.info.samples?.clip;
  }

  enter() {
    this.page.showConnection((this.processing.job ?? this.preview).connection.state, "");
  }

  /** What is being processed goes on; everything else stays as it is. */
  leave() {
    this.player.pause();
    if (!this.processing.job) this.preview.close();
    this.page.showConnection("closed", "");
  }

  tokenChanged() {}

  async openSample() {
    const turn = ++this.turn;
    try {
      const answer = await fetch(this.page.server.info.samples.clip.url);
      if (!answer.ok) throw new Error(answer.statusText);
      const blob = await answer.blob();
      if (turn === this.turn) await this.open(new File([blob], "clip.mp4", { type: "video/mp4" }));
    } catch {
      this.page.notices.show("video", messages.SAMPLE_FAILED);
    }
  }

  /** @param {File} file */
  async open(file) {
    const turn = ++this.turn;
    const { notices, server } = this.page;
    notices.hide("video");
    if (file.size === 0) return notices.show("video", messages.EMPTY_VIDEO);
    const head = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer().catch(() => new ArrayBuffer(0)));
    if (turn !== this.turn) return;
    if (!sniff(head)) return notices.show("video", messages.NO_VIDEO);
    const { max_video_bytes: most, max_video_seconds: longestS } = server.info.limits ?? {};
    if (most && file.size > most) return notices.show("video", messages.videoTooLarge(file.size, most));
    this.forget();
    this.file = file;
    this.url = URL.createObjectURL(file);
    if (!(await this.play(this.url, null))) return;
    if (longestS && this.player.durationS > longestS) {
      const words = messages.videoTooLong(this.player.durationS, longestS);
      this.forget();
      notices.show("video", words);
    }
  }

  /**
   * Shows a video on the stage. Resolves to whether it can be worked with.
   * @param {string} url
   * @param {{width: number, height: number} | null} size in the server's pixels, where the video is only a copy
   */
  async play(url, size) {
    const { file, player, workspace } = this;
    if (!file) return false;
    const playable = await player.open(url);
    if (this.file !== file) return false;
    if (!playable) {
      workspace.setActive(false);
      part(this.host, "welcome").hidden = true;
      this.foreign.show(file);
      return false;
    }
    this.foreign.hide();
    const { videoWidth: width, videoHeight: height } = player.video;
    this.size = size ?? player.storedSize;
    const shown = fitted(width, height, SHOWN_SIDE);
    workspace.stage.setSize(shown.width, shown.height);
    workspace.root.style.setProperty("--ratio", String(width / height));
    workspace.setActive(true);
    this.transport.hidden = false;
    workspace.stage.drawPicture(player.video);
    workspace.stage.element.focus({ preventScroll: true });
    this.refresh();
    return true;
  }

  /** Back to the welcome. */
  forget() {
    this.turn++;
    this.processing.forget();
    this.preview.close();
    this.foreign.hide();
    this.player.close();
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = "";
    this.file = null;
    this.previews.clear();
    this.workspace.objects.restart();
    this.workspace.setActive(false);
    this.transport.hidden = true;
    this.card.restart();
    this.refresh();
  }

  refusal() {
    if (this.processing.job) return messages.JOB_RUNNING;
    const { state } = this.preview.connection;
    if (state === "waiting") return messages.NOT_CONNECTED_YET;
    if (state === "refused") return messages.TOKEN_NEEDED;
    const most = this.page.server.info.limits?.max_objects ?? DEFAULT_MOST_OBJECTS;
    return this.workspace.objects.size >= most ? messages.TOO_MANY_OBJECTS : null;
  }

  /** @param {import("./objects.js").SegObject} object */
  describe(object) {
    if (object.bitmap || this.processing.job) return describe(object);
    const { shownS } = this.player;
    if (object.marks.some(({ timeS }) => timeS === shownS)) {
      return object.state === "waiting" && this.previews.has(shownS) ? "" : describe(object);
    }
    return `from ${clock(Math.min(...object.marks.map(({ timeS }) => timeS ?? 0)))}`;
  }

  /**
   * @param {import("./objects.js").SegObject} object
   * @param {Mark} mark
   */
  marked(object, mark) {
    const { player, workspace } = this;
    const { shownS } = player;
    mark.timeS = shownS;
    if (!player.video.paused) {
      // The click meant the frame that the canvas shows; the video may have gone on since.
      player.pause();
      void player.seekFrame(shownS);
    }
    this.preview.marked(shownS, workspace.stage.picture, object.id, mark);
    this.changed();
  }

  /**
   * @param {import("./objects.js").SegObject} object
   * @param {Mark} mark
   */
  undone({ id, marks }, mark) {
    if (!marks.length) return this.removed(id);
    const left = marks.filter(({ timeS }) => timeS === mark.timeS);
    if (mark.timeS === this.preview.timeS) this.preview.changed(id, left);
    if (!left.length) this.forgetPreview(id, mark.timeS);
    this.changed();
  }

  /**
   * @param {number} id
   * @param {number} [timeS] all frames, if left out
   */
  forgetPreview(id, timeS) {
    for (const [at, result] of this.previews) {
      if (timeS === undefined || at === timeS) {
        result.objects = result.objects.filter((/** @type {any} */ found) => found.object_id !== id);
      }
    }
    this.showPreview();
  }

  /** @param {number} id */
  removed(id) {
    this.preview.changed(id, []);
    this.forgetPreview(id);
    this.changed();
  }

  cleared() {
    this.preview.close();
    this.previews.clear();
    this.changed();
  }

  /**
   * @param {number} timeS
   * @param {any} result
   */
  previewed(timeS, result) {
    this.page.notices.hide("server");
    this.previews.set(timeS, result);
    if (timeS === this.player.shownS) this.showPreview();
    const { dataset } = this.workspace.stage.element;
    dataset.results = String(Number(dataset.results ?? 0) + 1);
  }

  /**
   * @param {import("./messages.js").ServerError} error
   * @param {Record<string, any> | null} request
   * @param {Mark | null} mark
   */
  previewFailed(error, request, mark) {
    if (error.code === "not_found" && request?.type === "remove") return;
    this.page.notices.show("server", messages.serverProblem(error), { passing: true });
    if (error.code !== "bad_prompt" || request?.type !== "prompt" || !mark) return;
    const { objects } = this.workspace;
    if (!objects.refuse(request.object_id, mark)) return;
    if (objects.byId.has(request.object_id)) this.changed();
    else this.removed(request.object_id);
  }

  /** The masks that are known of the frame that is shown. */
  showPreview() {
    this.shownPreview = this.previews.get(this.player.shownS) ?? null;
    this.workspace.objects.show(this.shownPreview);
  }

  frameShown() {
    const { workspace, player } = this;
    // Frames that come back from the server are drawn together with their masks.
    if (this.processing.job) return;
    workspace.stage.drawPicture(player.video);
    workspace.stage.element.dataset.time = player.shownS.toFixed(4);
    const known = this.previews.get(player.shownS) ?? null;
    if (known || this.shownPreview) this.showPreview();
    else if (player.video.paused) workspace.refresh();
    else workspace.stage.draw();
  }

  /** Prompts or options are others than before. */
  changed() {
    this.processing.upToDate = false;
    this.refresh();
  }

  refresh() {
    const { card, player, processing, workspace } = this;
    if (!processing) return;
    const objects = workspace.objects.all();
    const again = !card.files.hidden;
    card.setButton(again ? "Process again" : "Process the video", objects.length > 0, again && processing.upToDate);
    const note = objects.length ? "Each object begins at the first frame you clicked on." : "Click an object first.";
    card.setNote(again && processing.upToDate ? "Change your clicks or the settings to make another result." : note);
    const span = { startS: card.startS, endS: card.endS, durationS: player.durationS };
    showLane(part(this.host, "lane"), objects, span, (timeS) => {
      player.pause();
      void player.seekFrame(timeS);
    });
  }

  /**
   * @param {import("./connection.js").ConnectionState} state
   * @param {string} why
   */
  connectionChanged(state, why) {
    if (!this.host.hidden) this.page.showConnection(state, why);
  }
}

/** What makes a copy for looking at: a server wants a prompt, and this one is for a frame that no video has. */
const NEVER = { object_id: 1, points_xy_px: [[0, 0]], labels: [1], frame: 2 ** 40 };
const COPY = { masks: "none", prompts: [NEVER], video: { container: "mp4", quality: 60, max_side_px: SHOWN_SIDE } };
