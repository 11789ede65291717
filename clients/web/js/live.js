/**
 * The tab Live: a camera over the websocket. The picture is shown without the server; frames travel only while there
 * is an object to follow, two at a time at most, so that the delay stays one frame's.
 */

import { camerasAllowed, listCameras, openCamera, openClip } from "./camera.js";
import { Connection } from "./connection.js";
import { fromTemplate, part, setText } from "./dom.js";
import { Frames } from "./frames.js";
import * as messages from "./messages.js";
import { promptOf } from "./objects.js";
import { Stats } from "./stats.js";
import { Workspace } from "./workspace.js";

const MOST_ON_THE_WAY = 2;
const STATS_EVERY_MS = 500;
const DEFAULT_MOST_OBJECTS = 64;

export class Live {
  name = "live";

  /**
   * @param {HTMLElement} host
   * @param {import("./main.js").Page} page
   */
  constructor(host, page) {
    this.host = host;
    this.page = page;
    /** @type {import("./camera.js").MovingPictures | null} */
    this.source = null;
    this.starting = 0;
    this.mostObjects = DEFAULT_MOST_OBJECTS;
    this.pausedUntilMs = 0;
    /** Whether the video has a picture that was not taken yet. */
    this.fresh = false;
    /** @type {number | null} index of the frame that is shown with its masks; null: the live picture is shown */
    this.shownIndex = null;
    this.stats = new Stats();
    this.frames = new Frames((index, timestamp_ms, jpeg) => this.connection.frame({ index, timestamp_ms }, jpeg));
    this.workspace = new Workspace(
      host,
      {
        label: "Live picture. Click an object to follow it; arrow keys move a pointer, Enter clicks.",
        hint: "Click an object to follow it",
        emptyWords: "Nothing followed yet.",
        showMarks: false,
        refusal: () => this.refusal(),
        onMark: (object, mark) => this.marked(object, mark),
        onRemove: (id) => this.removed(id),
        onClear: () => this.cleared(),
        onSave: null,
      },
      page.notices,
    );
    this.connection = new Connection(page.server, {
      start: () => ({ source: "frames", masks: "rle", carry: true }),
      onReady: (ready) => this.ready(ready),
      onResult: (result) => this.result(result),
      onError: (error, request) => this.failed(error, request),
      onState: (state, why) => this.connectionChanged(state, why),
    });
    this.furnish();
    setInterval(() => this.showStats(), STATS_EVERY_MS);
  }

  furnish() {
    const { host, workspace } = this;
    part(host, "welcome").append(fromTemplate("live-welcome-template"));
    part(host, "actions").append(fromTemplate("live-actions-template"));
    workspace.side.append(fromTemplate("live-stats-template"));
    part(host, "camera").addEventListener("click", () => void this.startCamera(null));
    part(host, "clip").addEventListener("click", () => void this.startClip());
    part(host, "stop").addEventListener("click", () => {
      this.stop();
      part(host, "camera").focus();
    });
    this.cameras = part(host, "cameras").querySelector("select");
    this.cameras.addEventListener("change", () => void this.startCamera(this.cameras.value));
  }

  /** The server said what it offers. */
  informed() {
    part(this.host, "clip").hidden = !this.page.server.info.samples?.clip;
  }

  enter() {
    this.page.showConnection(this.connection.state, "");
  }

  leave() {
    this.stop();
  }

  tokenChanged() {
    if (this.source) this.connection.wake();
  }

  /** @param {string | null} deviceId */
  async startCamera(deviceId) {
    if (!camerasAllowed()) return this.page.notices.show("camera", messages.CAMERA_NEEDS_HTTPS);
    await this.begin(() => openCamera(deviceId), messages.cameraProblem);
    if (this.source?.deviceId) await this.offerCameras(this.source.deviceId);
  }

  async startClip() {
    const { clip } = this.page.server.info.samples;
    await this.begin(() => openClip(clip.url), () => messages.CLIP_FAILED);
  }

  /**
   * @param {() => Promise<import("./camera.js").MovingPictures>} open
   * @param {(error: unknown) => string} problem
   */
  async begin(open, problem) {
    const turn = ++this.starting;
    this.stopSource();
    this.page.notices.hide("camera");
    try {
      const source = await open();
      // The user may have left, or chosen something else, while the browser asked for permission.
      if (turn !== this.starting) return source.stop();
      this.source = source;
    } catch (error) {
      if (turn !== this.starting) return;
      this.workspace.setActive(false);
      return this.page.notices.show("camera", problem(error));
    }
    const { source } = this;
    source.onEnded(() => {
      if (this.source !== source) return;
      this.stop();
      this.page.notices.show("camera", messages.CAMERA_ENDED);
    });
    part(this.host, "cameras").hidden = true;
    this.fit();
    source.video.addEventListener("resize", () => this.fit());
    this.workspace.setActive(true);
    this.workspace.stage.element.focus({ preventScroll: true });
    this.connection.wake();
    this.watch(source.video);
    this.tick();
  }

  /** @param {string} current */
  async offerCameras(current) {
    const cameras = await listCameras();
    this.cameras.replaceChildren(
      ...cameras.map(({ deviceId, label }, place) => new Option(label || `Camera ${place + 1}`, deviceId)),
    );
    this.cameras.value = current;
    part(this.host, "cameras").hidden = cameras.length < 2;
  }

  stop() {
    this.starting++;
    this.stopSource();
    this.workspace.setActive(false);
  }

  stopSource() {
    this.connection.close();
    this.source?.stop();
    this.source = null;
    this.frames.restart();
    this.stats.reset();
    this.shownIndex = null;
    this.workspace.objects.restart();
  }

  /** The camera's picture has a new size, as when a phone is turned. */
  fit() {
    const { videoWidth, videoHeight } = /** @type {NonNullable<typeof this.source>} */ (this.source).video;
    if (!videoWidth) return;
    const before = { ...this.frames.sent };
    this.frames.setSize(videoWidth, videoHeight);
    this.workspace.stage.setSize(this.frames.shown.width, this.frames.shown.height);
    const { width, height } = this.frames.sent;
    if (this.workspace.objects.size && (before.width !== width || before.height !== height)) {
      this.workspace.clear();
    }
  }

  /**
   * Keeps note of new pictures, so that none is sent twice.
   * @param {HTMLVideoElement} video
   */
  watch(video) {
    const noted = () => {
      this.fresh = true;
      if (this.source?.video !== video) return;
      video.requestVideoFrameCallback(noted);
    };
    if ("requestVideoFrameCallback" in video) noted();
  }

  tick() {
    if (!this.source) return;
    const { video } = this.source;
    if (!("requestVideoFrameCallback" in video)) this.fresh = true;
    const { objects, stage } = this.workspace;
    const live = objects.size === 0 || !this.connection.ready;
    stage.element.classList.toggle("stale", live);
    if (live) {
      this.shownIndex = null;
      stage.drawPicture(video);
    }
    this.pump();
    requestAnimationFrame(() => this.tick());
  }

  /** Sends the newest picture if there is room on the way. */
  pump() {
    if (!this.source || !this.fresh || !this.workspace.objects.size) return;
    if (!this.connection.ready) {
      if (this.connection.state === "asleep") this.connection.wake();
      return;
    }
    if (this.frames.waiting >= MOST_ON_THE_WAY || performance.now() < this.pausedUntilMs) return;
    this.fresh = false;
    this.frames.take(this.source.video);
  }

  refusal() {
    if (this.connection.state === "waiting") return messages.NOT_CONNECTED_YET;
    if (this.connection.state === "refused") return messages.TOKEN_NEEDED;
    if (this.workspace.objects.size >= this.mostObjects) return messages.TOO_MANY_OBJECTS;
    return null;
  }

  /**
   * @param {import("./objects.js").SegObject} object
   * @param {import("./objects.js").Mark} mark
   */
  marked(object, mark) {
    // Without a session all prompts are sent as soon as there is one; see ready().
    if (!this.connection.ready) return this.connection.wake();
    const { width, height } = this.frames.sent;
    // A lost object starts afresh where it is clicked: what was known of it no longer holds.
    const replace = object.state === "lost";
    const prompt = { type: "prompt", ...promptOf(object.id, [mark], width, height), replace };
    if (this.shownIndex !== null) {
      this.connection.request({ ...prompt, frame: this.shownIndex });
      return;
    }
    // The click was made on the live picture, which the server has not seen: it is sent now, after its prompt, and
    // is the very next frame to be segmented.
    this.connection.request(prompt);
    if (this.frames.waiting < MOST_ON_THE_WAY) this.frames.take(this.workspace.stage.picture);
  }

  /** @param {number} id */
  removed(id) {
    this.connection.request({ type: "remove", object_id: id });
  }

  cleared() {
    this.connection.request({ type: "reset" });
  }

  /** @param {any} ready */
  ready(ready) {
    this.mostObjects = ready.limits.max_objects;
    this.pausedUntilMs = 0;
    this.frames.restart();
    this.stats.reset();
    const { width, height } = this.frames.sent;
    // After a broken connection the objects go on from where they were last seen.
    for (const { id, state, rle, marks } of this.workspace.objects.all()) {
      const prompt = state === "tracked" && rle ? { object_id: id, mask: rle } : promptOf(id, marks, width, height);
      this.connection.request({ type: "prompt", ...prompt });
    }
  }

  /** @param {any} result */
  result(result) {
    const picture = this.frames.arrived(result.index);
    this.stats.add(performance.now(), result.timestamp_ms ?? performance.now(), result.dropped);
    const { objects, stage } = this.workspace;
    if (objects.size && picture) {
      stage.drawPicture(picture);
      stage.element.classList.remove("stale");
      stage.element.dataset.index = String(result.index);
      this.shownIndex = result.index;
      objects.apply(result);
    }
    this.pump();
  }

  /**
   * @param {import("./messages.js").ServerError & {index?: number}} error
   * @param {Record<string, any> | null} request
   */
  failed(error, request) {
    const { notices } = this.page;
    if (error.code === "overloaded" || error.code === "rate_limited") {
      this.pausedUntilMs = performance.now() + 1000 * (error.retry_after_s ?? 1);
    }
    if (error.index !== undefined && !request) this.frames.arrived(error.index);
    if (error.code === "not_found" && request?.type === "remove") return;
    notices.show("server", messages.serverProblem(error), { passing: true });
    if (request?.type !== "prompt") return;
    const object = this.workspace.objects.byId.get(request.object_id);
    object?.marks.pop();
    if (object?.state === "waiting") this.workspace.remove(object.id);
  }

  /**
   * @param {import("./connection.js").ConnectionState} state
   * @param {string} why
   */
  connectionChanged(state, why) {
    const following = this.workspace.objects.size > 0;
    this.page.showConnection(state, why === "lost" && following ? "lost_following" : why);
  }

  showStats() {
    if (this.host.hidden) return;
    const following = this.source !== null && this.workspace.objects.size > 0;
    const fps = following ? this.stats.fps(performance.now()) : null;
    const delayMs = following ? this.stats.delayMs() : null;
    setText(part(this.host, "fps"), fps === null ? "–" : fps.toFixed(1));
    setText(part(this.host, "delay"), delayMs === null ? "–" : `${Math.round(delayMs)} ms`);
    setText(part(this.host, "dropped"), following ? String(this.stats.dropped) : "–");
  }
}
