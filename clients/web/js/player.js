/**
 * The video under the stage and its controls: playing, one scrub bar, single frames; and a second video that keeps
 * step with it. All times count from the first frame, as the server's do; a browser's may start later than at 0.
 */

import { part, setText } from "./dom.js";
import { evenBegin, isSought, learnDistance } from "./frame-times.js";
import { clock, within } from "./times.js";

/** How long a frame may take to appear after a seek; if none does, it was shown already. */
const SHOWN_AGAIN_MS = 100;
const LOADING_MS = 20_000;
const FIRST_FRAME_WAITS = 50;
/** Steps by which the next frame is looked for while the distance of frames is not known. */
const SMALLEST_FRAME_S = 1 / 120;
const MOST_TRIES = 60;
const FAR_OFF_S = 0.25;
const OFF_S = 0.02;
/** Less than a browser may round a moment by would be sought for ever. */
const EXACTLY_S = 0.002;

/**
 * @typedef {object} PlayerHooks
 * @property {() => void} onFrame another frame is shown; see `shownS`
 * @property {() => void} onBroken
 */

export class Player {
  /**
   * @param {HTMLElement} host
   * @param {HTMLElement} stage
   * @param {PlayerHooks} hooks
   */
  constructor(host, stage, hooks) {
    this.host = host;
    this.hooks = hooks;
    this.video = document.createElement("video");
    this.video.className = "source";
    this.video.playsInline = true;
    this.video.preload = "auto";
    this.video.tabIndex = -1;
    this.video.setAttribute("aria-hidden", "true");
    stage.prepend(this.video);
    /** @type {HTMLVideoElement | null} */
    this.twin = null;
    this.twinOffsetS = 0;
    this.opened = false;
    this.turn = 0;
    this.durationS = 0;
    this.firstS = 0;
    /** When the frame that is shown begins. */
    this.shownS = 0;
    this.framesShown = 0;
    /** @type {number | null} the distance of two frames, once it is known */
    this.frameS = null;
    /** @type {number | null} the same in a browser that does not tell when a frame begins that was sought */
    this.evenS = null;
    /** @type {number | null} */
    this.wantedS = null;
    this.goingS = this.goingBeginS = this.wantedBeginS = 0;
    /** @type {(() => void)[]} */
    this.arrivals = [];
    this.giveUp = () => {};
    this.stepping = false;
    this.stepsLeft = 0;
    this.caughtUp = () => this.keepStep(true);
    this.play = part(host, "play");
    this.scrub = /** @type {HTMLInputElement} */ (part(host, "scrub"));
    this.listen();
  }

  listen() {
    const { host, video, scrub } = this;
    this.play.addEventListener("click", () => this.toggle());
    part(host, "back").addEventListener("click", () => void this.step(-1));
    part(host, "forward").addEventListener("click", () => void this.step(1));
    this.sound = part(host, "sound");
    this.sound.addEventListener("click", () => {
      video.muted = !video.muted;
      this.show();
    });
    scrub.addEventListener("input", () => {
      this.pause();
      const timeS = Number(scrub.value);
      void (this.evenS === null ? this.seek(timeS) : this.seekFrame(Math.floor(within(timeS) / this.evenS) * this.evenS));
    });
    for (const type of ["play", "pause", "ended", "volumechange"]) video.addEventListener(type, () => this.show());
    video.addEventListener("play", () => this.keepStep(true));
    video.addEventListener("pause", () => this.keepStep(true));
    video.addEventListener("seeked", () => this.seeked());
    video.addEventListener("timeupdate", () => {
      if (!("requestVideoFrameCallback" in video)) this.noteFrame(this.video.currentTime);
    });
    video.addEventListener("error", () => {
      if (this.opened) this.hooks.onBroken();
    });
    document.addEventListener("keydown", (event) => this.key(event));
    if (!("requestVideoFrameCallback" in video)) return;
    /** @type {VideoFrameRequestCallback} */
    const noted = (_now, { mediaTime }) => {
      this.noteFrame(mediaTime);
      video.requestVideoFrameCallback(noted);
    };
    video.requestVideoFrameCallback(noted);
  }

  /**
   * @param {string} url
   * @returns {Promise<boolean>} whether this browser can show it
   */
  async open(url) {
    this.close();
    const { turn, video } = this;
    video.src = url;
    if (!(await this.happens("loadedmetadata")) || !video.videoWidth) return false;
    if (!Number.isFinite(video.duration)) {
      // Recordings of browsers do not say how long they are; at their end it is known.
      if (!(await this.goTo(1e7))) return false;
      this.framesShown = 0;
      if (!(await this.goTo(0))) return false;
    }
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA && !(await this.happens("loadeddata"))) return false;
    for (let waits = 0; waits < FIRST_FRAME_WAITS && !this.framesShown; waits++) await pause(10);
    const firstS = this.shownS;
    const evenS = await learnDistance(video, firstS, (timeS) => this.goTo(timeS));
    if (turn !== this.turn) return false;
    this.firstS = firstS;
    this.frameS = this.evenS = evenS;
    this.shownS = 0;
    this.durationS = Number.isFinite(video.duration) ? Math.max(0, video.duration - this.firstS) : 0;
    this.scrub.max = String(this.durationS);
    this.opened = true;
    this.show();
    return true;
  }

  /**
   * The size of a frame as it is stored. Where pixels are not square, a browser shows it wider or narrower.
   * @returns {{width: number, height: number}}
   */
  get storedSize() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!("VideoFrame" in window)) return { width, height };
    try {
      const frame = new VideoFrame(this.video);
      const stored = frame.visibleRect;
      frame.close();
      const stretched = stored && (stored.width === width) !== (stored.height === height);
      return stretched ? { width: stored.width, height: stored.height } : { width, height };
    } catch {
      return { width, height };
    }
  }

  close() {
    this.turn++;
    this.opened = false;
    this.giveUp();
    this.follow(null, 0);
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    this.firstS = this.shownS = this.durationS = this.framesShown = 0;
    this.frameS = this.evenS = this.wantedS = null;
    this.arrive();
  }

  /**
   * @param {string} type
   * @returns {Promise<boolean>}
   */
  happens(type) {
    const { video } = this;
    return new Promise((resolve) => {
      const ended = new AbortController();
      const end = (/** @type {boolean} */ fine) => {
        ended.abort();
        clearTimeout(timer);
        resolve(fine);
      };
      const timer = setTimeout(() => end(false), LOADING_MS);
      video.addEventListener(type, () => end(true), { signal: ended.signal });
      video.addEventListener("error", () => end(false), { signal: ended.signal });
      this.giveUp = () => end(false);
    });
  }

  /** @param {number} mediaS */
  goTo(mediaS) {
    this.video.currentTime = mediaS;
    return this.happens("seeked");
  }

  /** @param {number} mediaS when the frame begins, by the browser's time */
  noteFrame(mediaS) {
    const timeS = this.beginning(mediaS - this.firstS);
    const passedS = timeS - this.shownS;
    if (!this.video.paused) this.noteDistance(passedS);
    this.shownS = timeS;
    this.framesShown++;
    if (!this.opened) return;
    this.keepStep(false);
    this.show();
    this.hooks.onFrame();
  }

  /**
   * When a frame begins.
   * @param {number} toldS by the browser
   */
  beginning(toldS) {
    if (this.evenS === null) return toldS;
    return evenBegin(isSought(toldS, this.goingS) ? this.goingBeginS : toldS, this.evenS);
  }

  /** @param {number} passedS from one frame to another */
  noteDistance(passedS) {
    if (this.evenS === null && passedS > SMALLEST_FRAME_S / 2) this.frameS = Math.min(this.frameS ?? Infinity, passedS);
  }

  show() {
    const { video, scrub } = this;
    const playing = !video.paused && !video.ended;
    const moment = this.wantedS ?? (video.paused ? this.shownS : video.currentTime - this.firstS);
    if (document.activeElement !== scrub || playing || this.wantedS === null) scrub.value = String(moment);
    scrub.style.setProperty("--at", String(this.durationS ? Math.min(1, moment / this.durationS) : 0));
    const where = `${clock(moment)} of ${clock(this.durationS)}`;
    if (scrub.getAttribute("aria-valuetext") !== where) scrub.setAttribute("aria-valuetext", where);
    setText(part(this.host, "time"), `${clock(moment)} / ${clock(this.durationS)}`);
    this.play.dataset.playing = String(playing);
    this.play.setAttribute("aria-label", playing ? "Pause" : "Play");
    this.sound.dataset.muted = String(video.muted);
    this.sound.setAttribute("aria-label", video.muted ? "Sound on" : "Sound off");
  }

  toggle() {
    const { video } = this;
    if (!this.opened) return;
    if (video.paused || video.ended) video.play().catch(() => {});
    else this.pause();
  }

  pause() {
    this.video.pause();
  }

  /**
   * Shows the frame of a moment. Resolves when it is shown, or when a later call took its place.
   * @param {number} timeS
   * @param {number} [beginS] when that frame begins, if that is known
   * @returns {Promise<void>}
   */
  seek(timeS, beginS = timeS) {
    this.wantedS = Math.max(0, Math.min(timeS, this.durationS));
    this.wantedBeginS = beginS;
    const shown = new Promise((/** @type {(value: void) => void} */ resolve) => this.arrivals.push(resolve));
    if (!this.video.seeking) this.go();
    this.show();
    return shown;
  }

  /**
   * Shows the frame that begins then.
   * @param {number} beginS
   */
  seekFrame(beginS) {
    return this.seek(within(beginS), beginS);
  }

  go() {
    this.framesBefore = this.framesShown;
    this.goingS = /** @type {number} */ (this.wantedS);
    this.goingBeginS = this.wantedBeginS;
    this.video.currentTime = this.goingS + this.firstS;
    if (this.twin && !this.twin.seeking) this.twin.currentTime = Math.max(0, this.goingS - this.twinOffsetS);
  }

  seeked() {
    if (this.wantedS === null) return;
    if (this.wantedS !== this.goingS) return this.go();
    const { framesBefore } = this;
    const began = performance.now();
    const look = () => {
      if (this.video.seeking || this.wantedS === null) return;
      const shown = this.framesShown !== framesBefore || !("requestVideoFrameCallback" in this.video);
      if (!shown && performance.now() - began < SHOWN_AGAIN_MS) return void setTimeout(look, 8);
      this.wantedS = null;
      this.keepStep(true);
      this.show();
      this.arrive();
    };
    look();
  }

  arrive() {
    for (const resolve of this.arrivals.splice(0)) resolve();
  }

  /**
   * To the next frame or the one before; calls add up.
   * @param {1 | -1} direction
   */
  async step(direction) {
    if (!this.opened) return;
    this.pause();
    this.stepsLeft += direction;
    if (this.stepping) return;
    this.stepping = true;
    while (this.stepsLeft && this.opened) {
      const one = Math.sign(this.stepsLeft);
      this.stepsLeft -= one;
      await this.stepOnce(one);
    }
    this.stepsLeft = 0;
    this.stepping = false;
  }

  /**
   * Browsers cannot step; they can show the frame of a moment.
   * @param {number} direction
   */
  async stepOnce(direction) {
    const fromS = this.shownS;
    if (this.evenS !== null) {
      const toS = (Math.round(fromS / this.evenS) + direction) * this.evenS;
      if (toS < this.durationS - this.evenS / 2) await this.seekFrame(Math.max(0, toS));
      return;
    }
    if (direction < 0) {
      await this.seek(fromS - (this.frameS ?? SMALLEST_FRAME_S) / 2);
    } else {
      const stepS = this.frameS ?? SMALLEST_FRAME_S;
      for (let tries = 1; tries <= MOST_TRIES && this.shownS <= fromS; tries++) {
        const toS = fromS + stepS * (tries + 0.25);
        await this.seek(toS);
        if (toS >= this.durationS) break;
      }
    }
    this.noteDistance(Math.abs(this.shownS - fromS));
  }

  /**
   * A second video plays and stops with this one, without sound of its own.
   * @param {HTMLVideoElement | null} twin
   * @param {number} offsetS moment of this video at which the second one begins
   */
  follow(twin, offsetS) {
    this.twin?.pause();
    this.twin?.removeEventListener("seeked", this.caughtUp);
    twin?.addEventListener("seeked", this.caughtUp);
    this.twin = twin;
    this.twinOffsetS = offsetS;
    if (twin) this.keepStep(true);
  }

  /** @param {boolean} exactly */
  keepStep(exactly) {
    const { video, twin } = this;
    if (!twin || twin.readyState === HTMLMediaElement.HAVE_NOTHING) return;
    const wantedS = video.currentTime - this.firstS - this.twinOffsetS;
    const inside = wantedS >= 0 && wantedS < (twin.duration || 0);
    const playing = !video.paused && !video.ended && inside;
    if (playing && twin.paused) twin.play().catch(() => {});
    if (!playing && !twin.paused) twin.pause();
    if (twin.seeking) return;
    const behindS = Math.max(0, Math.min(wantedS, twin.duration || 0)) - twin.currentTime;
    const mostS = playing ? FAR_OFF_S : exactly ? EXACTLY_S : FAR_OFF_S;
    if (Math.abs(behindS) > mostS) twin.currentTime += behindS;
    // Small differences are caught up with unnoticed; a jump would be seen.
    twin.playbackRate = playing && Math.abs(behindS) > OFF_S ? 1 + Math.max(-0.5, Math.min(0.5, 2 * behindS)) : 1;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const { target } = event;
    if (this.host.hidden || !this.opened || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.play.closest("[inert]") || !(target instanceof Element)) return;
    const onScrub = target === this.scrub;
    if (target.closest("select, dialog, [role=tab], [role=slider]")) return;
    if (target instanceof HTMLInputElement && !onScrub && (target.type !== "radio" || /^Arrow/.test(event.key))) return;
    if (event.key === "," || event.key === "ArrowLeft") void this.step(-1);
    else if (event.key === "." || event.key === "ArrowRight") void this.step(1);
    else if (event.key === " " && !target.closest("button, a, label, summary, input:not([type=range])")) this.toggle();
    else if (event.key === "Home" && onScrub) void this.seek(0);
    else if (event.key === "End" && onScrub) void this.seek(this.durationS);
    else return;
    event.preventDefault();
  }
}

/** @param {number} ms */
function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
