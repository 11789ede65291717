/**
 * What the server is told of the objects in a live picture, and what it says of them: one session after the other, in
 * which the same objects go on. Frames travel two at a time at most, so that the delay stays one frame's.
 */

import { Connection } from "./connection.js";
import { EXCLUDE } from "./gestures.js";
import { promptOf } from "./objects.js";
import { Sightings } from "./sightings.js";

const MOST_ON_THE_WAY = 2;

/** @typedef {import("./objects.js").SegObject} SegObject */
/** @typedef {import("./objects.js").Mark} Mark */
/** @typedef {import("./messages.js").ServerError} ServerError */

/**
 * @typedef {object} SessionHooks
 * @property {() => "track" | "image"} mode
 * @property {() => HTMLCanvasElement} picture that is pointed at
 * @property {(ready: any) => void} onReady
 * @property {(result: any, picture: HTMLCanvasElement) => void} onResult objects know what it says already
 * @property {() => void} onShape the picture has another shape than the objects were followed in
 * @property {(error: ServerError) => void} onFailed
 * @property {(state: import("./connection.js").ConnectionState, why: string) => void} onState
 */

export class LiveSession {
  /**
   * @param {import("./connection.js").Surroundings} server
   * @param {import("./objects.js").Objects} objects
   * @param {import("./frames.js").Frames} frames
   * @param {SessionHooks} hooks
   */
  constructor(server, objects, frames, hooks) {
    this.objects = objects;
    this.frames = frames;
    this.hooks = hooks;
    this.pausedUntilMs = 0;
    /** @type {Sightings<HTMLCanvasElement>} */
    this.sightings = new Sightings();
    /**
     * What a new session is still to be shown of the objects that go on; null: it knows.
     * @type {import("./sightings.js").Round<HTMLCanvasElement>[] | null}
     */
    this.rounds = null;
    this.connection = new Connection(server, {
      start: () => ({ source: "frames", masks: "rle", mode: hooks.mode(), carry: true }),
      onReady: (ready) => this.begin(ready),
      onResult: (result) => this.result(result),
      onError: (error, request, mark) => this.failed(error, request, mark),
      onState: (state, why) => this.changed(state, why),
    });
  }

  get state() {
    return this.connection.state;
  }

  /** Whether there is a session that knows the objects. */
  get settled() {
    return this.connection.ready && !this.rounds;
  }

  get hasRoom() {
    return this.settled && this.frames.waiting < MOST_ON_THE_WAY && performance.now() >= this.pausedUntilMs;
  }

  open() {
    this.connection.wake();
  }

  /**
   * Sends a frame. Returns whether there is a session.
   * @param {number} index
   * @param {number} timestampMs when it was taken
   * @param {Uint8Array} jpeg
   */
  send(index, timestampMs, jpeg) {
    return this.connection.frame({ index, timestamp_ms: timestampMs }, jpeg);
  }

  /** Another session for the same picture; the objects go on in it. */
  openAnew() {
    this.connection.close();
    this.connection.wake();
  }

  /** Ends it, and forgets everything. */
  close() {
    this.connection.close();
    this.frames.restart();
    this.sightings.clear();
  }

  /**
   * @param {SegObject} object
   * @param {Mark} mark
   * @param {number | null} shownIndex the frame that it was made on; null: the live picture, unknown to the server
   */
  marked(object, mark, shownIndex) {
    // Without a session all prompts are sent as soon as there is one; see goOn().
    if (!this.settled) return this.open();
    if (shownIndex !== null) return this.tell(object, mark, { frame: shownIndex });
    this.tell(object, mark);
    this.show();
  }

  /**
   * @param {SegObject} object
   * @param {Mark} mark
   * @param {{frame?: number}} [on] none: it is for the next frame
   */
  tell(object, mark, on = {}) {
    const { width, height } = this.frames.sent;
    const prompt = { type: "prompt", ...promptOf(object.id, [mark], width, height), ...on };
    this.objects.history.tell(mark);
    if (!startsAfresh(object, mark, this.hooks.mode())) {
      this.connection.request(prompt, mark);
      return;
    }
    object.marks = [mark];
    this.objects.history.forget(object.id, mark);
    this.connection.request({ ...prompt, replace: true }, mark);
  }

  /** Sends the live picture that was clicked on, after its prompts: it is the very next frame to be segmented. */
  show() {
    if (this.frames.waiting < MOST_ON_THE_WAY) this.frames.take(this.hooks.picture());
  }

  /**
   * @param {SegObject} object
   * @param {boolean} told
   */
  undone(object, told) {
    if (!told) return;
    // The only prompt of an object may be refused at this moment; the last one that is left would then be another's.
    if (!object.marks.length && object.state === "waiting") this.removed(object.id);
    else this.connection.request({ type: "undo" });
  }

  /** @param {number} id */
  removed(id) {
    this.connection.request({ type: "remove", object_id: id });
  }

  cleared() {
    this.sightings.clear();
    this.connection.request({ type: "reset" });
  }

  /** @param {any} ready */
  begin(ready) {
    this.pausedUntilMs = 0;
    this.frames.restart();
    this.rounds = this.sightings.rounds();
    this.hooks.onReady(ready);
    this.goOn();
  }

  /**
   * In a new session the objects go on from where they were last seen, on the very pictures on which that was; then the
   * session hears what was clicked in the meantime.
   */
  goOn() {
    const { objects } = this;
    for (let round = this.rounds?.shift(); round; round = this.rounds?.shift()) {
      const prompts = round.prompts.filter(({ object_id }) => objects.byId.has(object_id));
      for (const prompt of prompts) this.connection.request({ type: "prompt", ...prompt });
      if (prompts.length) return this.frames.take(round.picture);
    }
    this.rounds = null;
    const untold = objects.history.untold();
    for (const { objectId, mark } of untold) {
      const object = objects.byId.get(objectId);
      if (object) this.tell(object, mark);
    }
    if (untold.length) this.show();
  }

  /** @param {any} result */
  result(result) {
    const { frames, objects } = this;
    const picture = frames.arrived(result.index);
    if (this.rounds) {
      frames.giveBack([picture]);
      this.goOn();
      return;
    }
    if (!picture || !objects.size) return frames.giveBack([picture]);
    objects.apply(result);
    this.hooks.onResult(result, picture);
    frames.giveBack(this.sightings.note(picture, result.objects, (id) => objects.byId.has(id)));
  }

  /**
   * @param {ServerError} error
   * @param {Record<string, any> | null} request
   * @param {Mark | null} mark that the request told
   */
  failed(error, request, mark) {
    if (error.code === "overloaded" || error.code === "rate_limited") {
      this.pausedUntilMs = performance.now() + 1000 * (error.retry_after_s ?? 1);
    }
    if (error.index !== undefined && !request) {
      this.frames.giveBack([this.frames.arrived(error.index)]);
      if (this.rounds) this.goOn();
    }
    if (error.code === "frame_size") {
      if (this.objects.size) this.hooks.onShape();
      return;
    }
    if (error.code === "not_found" && request?.type === "remove") return;
    // The server has nothing left to take back.
    if (error.code === "bad_state" && request?.type === "undo") return this.objects.history.clear();
    if (request?.type === "prompt" && !this.refused(request.object_id, mark)) return;
    this.hooks.onFailed(error);
  }

  /**
   * Takes back here what the server did not take. Returns whether it was still there.
   * @param {number} id
   * @param {Mark | null} mark null: the object was to go on from where it was last seen
   */
  refused(id, mark) {
    const { objects } = this;
    if (mark ? !objects.refuse(id, mark) : !objects.byId.has(id)) return false;
    if (!mark) objects.remove(id);
    if (!objects.byId.has(id)) this.removed(id);
    return true;
  }

  /**
   * @param {import("./connection.js").ConnectionState} state
   * @param {string} why
   */
  changed(state, why) {
    if (state !== "ready") {
      this.rounds = null;
      this.objects.history.sessionEnded((id) => this.sightings.has(id));
      this.objects.onChange();
    }
    this.hooks.onState(state, why);
  }
}

/**
 * A lost object starts afresh where it is clicked: what was known of it no longer holds. Only the tracker remembers it,
 * and is corrected.
 * @param {SegObject} object
 * @param {Mark} mark
 * @param {"track" | "image"} mode
 */
export function startsAfresh({ state }, mark, mode) {
  return mode === "image" && state === "lost" && (mark.kind === "box" || mark.label !== EXCLUDE);
}
