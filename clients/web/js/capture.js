/**
 * Snapshots and recordings of what the stage shows: their buttons, the red sign, and the finished file.
 */

import { Composer } from "./compose.js";
import { fromTemplate, part, save, setText } from "./dom.js";
import * as messages from "./messages.js";
import { Recorder, recordingKind } from "./recorder.js";
import { clock } from "./times.js";

const CLOCK_EVERY_MS = 250;

export class Capture {
  /**
   * @param {HTMLElement} host
   * @param {import("./stage.js").Stage} stage
   * @param {import("./notices.js").Notices} notices
   */
  constructor(host, stage, notices) {
    this.host = host;
    this.stage = stage;
    this.notices = notices;
    this.composer = new Composer();
    /** @type {Recorder | null} */
    this.recorder = null;
    /** @type {import("./recorder.js").Recording | null} */
    this.finished = null;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this.timer = undefined;
    stage.element.append(fromTemplate("recording-sign-template"));
    part(host, "toolbar").after(fromTemplate("recording-done-template"));
    this.sign = part(host, "recording-sign");
    this.done = part(host, "recording-done");
    this.record = part(host, "record");
    part(host, "snapshot").addEventListener("click", () => void this.snapshot());
    this.record.addEventListener("click", () => this.toggle());
    part(host, "recording-save").addEventListener("click", () => this.saveRecording());
    part(host, "recording-discard").addEventListener("click", () => {
      this.forget();
      this.record.focus();
    });
    addEventListener("beforeunload", (event) => {
      if (this.recorder) event.preventDefault();
    });
    stage.onShown = () => this.recorder && this.composer.draw(stage.scene(), { transparent: false });
  }

  async snapshot() {
    // The recorder's canvas is not to be disturbed.
    const composer = this.recorder ? new Composer() : this.composer;
    try {
      save(await composer.png(this.stage.scene()), `streamseg-${stamp()}.png`);
    } catch {
      this.notices.show("capture", messages.SNAPSHOT_FAILED, { passing: true });
      return;
    }
    this.flash();
  }

  flash() {
    const light = document.createElement("span");
    light.className = "flash";
    light.addEventListener("animationend", () => light.remove());
    this.stage.element.append(light);
  }

  toggle() {
    if (this.recorder) this.stop();
    else this.start();
  }

  start() {
    const kind = recordingKind();
    if (!kind) return this.notices.show("capture", messages.RECORDING_UNSUPPORTED, { passing: true });
    this.forget();
    this.composer.draw(this.stage.scene(), { transparent: false });
    try {
      this.recorder = new Recorder(this.composer.canvas, kind, (recording) => this.ended(recording));
    } catch {
      return this.notices.show("capture", messages.RECORDING_FAILED, { passing: true });
    }
    this.showRecording(true);
    this.timer = setInterval(() => this.tick(), CLOCK_EVERY_MS);
    this.tick();
  }

  /** Ends a recording, if there is one; its file is offered. */
  stop() {
    this.recorder?.stop();
  }

  tick() {
    setText(part(this.host, "recording-time"), clock((this.recorder?.elapsedMs ?? 0) / 1000, 0));
  }

  /** @param {boolean} on */
  showRecording(on) {
    this.sign.hidden = !on;
    const words = on ? "Stop recording" : "Record";
    this.record.classList.toggle("recording", on);
    this.record.setAttribute("aria-label", words);
    this.record.title = `${words} (R)`;
    setText(part(this.host, "record-words"), words);
  }

  /** @param {import("./recorder.js").Recording | null} recording */
  ended(recording) {
    clearInterval(this.timer);
    this.recorder = null;
    this.showRecording(false);
    if (!recording) return this.notices.show("capture", messages.RECORDING_FAILED, { passing: true });
    this.finished = recording;
    const { file, ending, lastsMs } = recording;
    const about = [clock(lastsMs / 1000, 0), messages.sizeOf(file.size), ending === "mp4" ? "MP4" : "WebM"].join(" · ");
    setText(part(this.host, "recording-about"), about);
    this.done.hidden = false;
  }

  saveRecording() {
    if (this.finished) save(this.finished.file, `streamseg-${stamp()}.${this.finished.ending}`);
  }

  forget() {
    this.finished = null;
    this.done.hidden = true;
  }
}

/** The time of day, as it can stand in a file's name. */
function stamp() {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 19).replace("T", "-").replaceAll(":", "");
}
