/**
 * The tab Live: a camera, over the websocket or WebRTC, or a stream of the server's. A camera's picture is shown without
 * the server; its frames travel only while there is an object to follow.
 */

import { Announcer } from "./announcer.js";
import { camerasAllowed, listCameras, openCamera, openClip } from "./camera.js";
import { Capture } from "./capture.js";
import { fromTemplate, part } from "./dom.js";
import { EffectChooser } from "./effect-chooser.js";
import { FirstRun } from "./first-run.js";
import { FollowSwitch } from "./follow-switch.js";
import { Frames } from "./frames.js";
import { onLetters } from "./help.js";
import { LiveSession } from "./live-session.js";
import * as messages from "./messages.js";
import { DEFAULT_MOST_OBJECTS } from "./objects.js";
import { remember, remembered } from "./preferences.js";
import { SpeedCard } from "./speed-card.js";
import { Stats } from "./stats.js";
import { StreamSession } from "./stream-session.js";
import { StreamView } from "./stream-view.js";
import { TransportChoice } from "./transport-choice.js";
import { Workspace } from "./workspace.js";

const STATS_EVERY_MS = 500;
/** Pictures between two results of a stream; more are no help to a figure. */
const MOST_COUNTED = 100;

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
    /** Whether the video has a picture that was not taken yet. */
    this.fresh = false;
    /** Whether the video has a picture that was not drawn yet. */
    this.undrawn = false;
    /** @type {number | null} index of the frame that is shown with its masks; null: the live picture is shown */
    this.shownIndex = null;
    this.stats = new Stats();
    this.announcer = new Announcer();
    this.frames = new Frames((index, timestampMs, jpeg) => this.send(index, timestampMs, jpeg));
    this.workspace = new Workspace(
      host,
      {
        label: "Live picture. Click an object to follow it; arrow keys move a pointer, Enter clicks.",
        hint: "Click an object to follow it",
        emptyWords: "Nothing followed yet.",
        showMarks: false,
        moves: true,
        hides: true,
        refusal: () => this.refusal(),
        onMark: (object, mark) => this.session.marked(object, mark, this.shownIndex),
        onUndo: (object, _, told) => this.session.undone(object, told),
        onRemove: (id) => this.session.removed(id),
        onClear: () => this.session.cleared(),
        onSave: null,
      },
      page.notices,
    );
    this.camera = new LiveSession(page.server, this.workspace.objects, this.frames, {
      mode: () => this.follow.mode,
      wantsPeer: () => this.transport.wantsPeer,
      picture: () => this.workspace.stage.picture,
      onReady: (ready) => this.ready(ready),
      onResult: (result, picture) => this.result(result, picture, result.timestamp_ms ?? performance.now()),
      onFilmed: () => this.stats.sent.note(performance.now()),
      onShape: () => this.lookAnew(),
      onFailed: (error) => this.failed(error),
      onState: (state, why) => this.connectionChanged(state, why),
    });
    /** @type {LiveSession | StreamSession} the camera's, or a stream's that is looked at */
    this.session = this.camera;
    this.furnish();
    setInterval(() => this.report(), STATS_EVERY_MS);
  }

  furnish() {
    const { host, workspace } = this;
    part(host, "welcome").append(fromTemplate("live-welcome-template"));
    part(host, "actions").append(fromTemplate("live-actions-template"));
    workspace.side.append(fromTemplate("live-side-template"));
    new FirstRun(workspace.side, this.name);
    this.speed = new SpeedCard(part(host, "speed-place"));
    this.transport = new TransportChoice(part(host, "transport-place"), () => this.source && this.session.openAnew());
    this.streams = new StreamView(host, this.page, workspace, {
      mode: () => this.follow.mode,
      onChosen: (session) => this.look(session),
      onShown: (ownMode) => this.looking(ownMode),
      onOver: () => this.stop(),
      onReady: (ready) => this.ready(ready),
      onResult: (result, picture) => this.viewed(result, picture),
      onShape: () => this.lookAnew(),
      onFailed: (error) => this.failed(error),
      onState: (state, why) => this.connectionChanged(state, why),
    });
    this.capture = new Capture(host, workspace.stage, this.page.notices);
    this.effects = new EffectChooser(
      part(host, "effects-place"),
      this.name,
      (effect) => workspace.stage.setEffect(effect),
      (words) => this.page.notices.show("effect", words, { passing: true }),
    );
    onLetters(host, {
      e: () => workspace.active && this.effects.next(),
      r: () => workspace.active && this.capture.toggle(),
      s: () => workspace.active && void this.capture.snapshot(),
    });
    this.follow = new FollowSwitch(part(host, "follow-place"), this.name, () => workspace.active && this.session.openAnew());
    part(host, "follow-place").append(fromTemplate("smooth-template"));
    /** @type {HTMLInputElement} */
    this.smooth = part(host, "smooth");
    this.smooth.checked = remembered("smooth", false);
    this.smooth.addEventListener("change", () => remember("smooth", this.smooth.checked));
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
    this.streams.informed();
  }

  enter() {
    this.page.showConnection(this.session.state, "");
    void this.streams.list.ask();
  }

  leave() {
    this.stop();
  }

  tokenChanged() {
    if (this.workspace.active || this.session !== this.camera) this.session.open();
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
    this.session.open();
    this.watch(source.video);
    this.tick();
  }

  /**
   * A stream takes the place of what was looked at.
   * @param {StreamSession} session
   */
  look(session) {
    this.stop();
    this.page.notices.hide("camera");
    this.session = session;
  }

  /** @param {"track" | "image" | null} ownMode that the stream has for everyone; null: it is for this page to choose */
  looking(ownMode) {
    this.follow.fix(ownMode);
    this.furnishFor(false);
  }

  /** @param {boolean} camera whether it is one of this device, else a stream */
  furnishFor(camera) {
    part(this.host, "smooth-place").hidden = !camera;
    part(this.host, "transport-place").hidden = !camera;
    if (!camera) part(this.host, "cameras").hidden = true;
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
    this.capture.stop();
    this.stopSource();
    this.workspace.setActive(false);
    void this.streams.list.ask();
  }

  stopSource() {
    this.session.close();
    this.session = this.camera;
    this.streams.close();
    this.follow.fix(null);
    this.furnishFor(true);
    this.source?.stop();
    this.source = null;
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
    if (before.width === width && before.height === height) return;
    if (this.workspace.objects.size) this.lookAnew();
    this.camera.resized();
  }

  /** Objects cannot be followed from one shape of the picture to another. */
  lookAnew() {
    this.workspace.clear();
    this.page.notices.show("server", messages.OTHER_SHAPE, { passing: true });
  }

  /**
   * Keeps note of new pictures, so that none is sent twice.
   * @param {HTMLVideoElement} video
   */
  watch(video) {
    const noted = () => {
      if (this.source?.video !== video) return;
      this.fresh = this.undrawn = true;
      this.stats.camera.note(performance.now());
      video.requestVideoFrameCallback(noted);
    };
    if ("requestVideoFrameCallback" in video) noted();
  }

  tick() {
    if (!this.source) return;
    const { video } = this.source;
    if (!("requestVideoFrameCallback" in video)) this.fresh = this.undrawn = true;
    const { objects, stage } = this.workspace;
    const known = objects.size > 0 && this.camera.goesOn;
    if (!known) stage.setStale(true);
    if (this.undrawn && (!known || this.smooth.checked)) {
      this.undrawn = false;
      this.shownIndex = null;
      stage.drawPicture(video);
    }
    this.pump();
    requestAnimationFrame(() => this.tick());
  }

  /** Sends the newest picture if there is room on the way. */
  pump() {
    if (!this.source || !this.fresh || !this.workspace.objects.size) return;
    if (this.session.state === "asleep") this.session.open();
    if (!this.camera.hasRoom) return;
    this.fresh = false;
    this.camera.take(this.source.video);
  }

  /**
   * @param {number} index
   * @param {number} timestampMs when it was taken
   * @param {Uint8Array} jpeg
   */
  send(index, timestampMs, jpeg) {
    this.stats.sent.note(performance.now());
    return this.camera.send(index, timestampMs, jpeg);
  }

  refusal() {
    const { session } = this;
    if (session.state === "refused") return messages.TOKEN_NEEDED;
    // A stream's objects are the server's; a camera's can be told to a session that is still on its way.
    const isStream = session !== this.camera;
    if (isStream ? session.state !== "ready" : session.state === "waiting") return messages.NOT_CONNECTED_YET;
    if (isStream && this.shownIndex === null) return messages.NO_PICTURE_YET;
    if (this.workspace.objects.size >= this.mostObjects) return messages.TOO_MANY_OBJECTS;
    return null;
  }

  /** @param {any} ready */
  ready(ready) {
    this.mostObjects = ready.limits.max_objects;
    this.shownIndex = null;
    this.stats.reset();
  }

  /** @param {import("./messages.js").ServerError} error */
  failed(error) {
    this.page.notices.show("server", messages.serverProblem(error), { passing: true });
  }

  /**
   * A picture of a stream came, with its masks.
   * @param {any} result
   * @param {ImageBitmap} picture
   */
  viewed(result, picture) {
    const nowMs = performance.now();
    // The server counts those that it leaves out, too.
    const came = Math.min(MOST_COUNTED, result.index - (this.shownIndex ?? result.index - 1));
    for (let count = 0; count < came; count++) this.stats.camera.note(nowMs);
    this.result(result, picture, null);
  }

  /**
   * @param {any} result
   * @param {CanvasImageSource} picture
   * @param {number | null} takenMs when it was taken; null: nobody knows
   */
  result(result, picture, takenMs) {
    const { stage } = this.workspace;
    const nowMs = performance.now();
    this.stats.add(nowMs, takenMs, result.dropped, result.timings_ms);
    stage.setStale(false);
    if (takenMs !== null) stage.element.dataset.delayMs = (nowMs - takenMs).toFixed(1);
    stage.element.dataset.index = String(result.index);
    if (!this.smooth.checked || this.session !== this.camera) {
      stage.drawPicture(picture);
      this.shownIndex = result.index;
    }
    // The masks may be of a new picture without another one being drawn.
    stage.draw();
    this.pump();
  }

  /**
   * @param {import("./connection.js").ConnectionState} state
   * @param {string} why
   */
  connectionChanged(state, why) {
    // The objects of a stream that was opened here go with it.
    const goOn = !(this.session instanceof StreamSession) || this.session.wanted.url === null;
    this.page.showConnection(state, why, goOn && this.workspace.objects.size > 0);
  }

  /** How fast it goes, and what has become of the objects. */
  report() {
    if (this.host.hidden) return;
    const nowMs = performance.now();
    const following = this.workspace.active && this.workspace.objects.size > 0;
    this.speed.show(this.stats, nowMs, following, this.camera.estimated);
    this.transport.show(this.camera.filming, this.camera.fellBack, this.camera.state === "ready");
    const words = this.announcer.words(this.workspace.objects.all(), nowMs);
    if (words) part(this.host, "announcements").textContent = words;
  }
}
