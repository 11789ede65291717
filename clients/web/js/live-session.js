/**
 * What the server is told of the objects in a live picture, and what it says of them: one session after the other, in
 * which the same objects go on. A session outlives its websocket for a while, and then goes on as if nothing had
 * happened. Frames travel two at a time at most, so that the delay stays one frame's.
 *
 * Over WebRTC frames go over the websocket until the connection is there, and again when it is not any more: the
 * session takes both, so that nothing waits and nothing is lost when one of the ways ends.
 */

import { Connection } from "./connection.js";
import { Peer } from "./peer.js";
import { Sightings } from "./sightings.js";
import { Telling } from "./telling.js";

const MOST_ON_THE_WAY = 2;
/** On a long way more frames travel, so that the model does not wait for the next one. */
const ROUND_TRIP_PER_FRAME_MS = 40;
const MOST_FILMED_ON_THE_WAY = 6;
/** A connection that was lost is made anew at once, unless that was so a short time ago. */
const ANEW_AFTER_MS = 30_000;
/** Long enough for a model that is slow at first. */
const STALLED_MS = 10_000;
const FRAME = "frame-";
/** What a server says to a start that asks for WebRTC: it is off, or was not known yet. */
const NO_PEER = new Set(["webrtc_failed", "bad_message"]);

/** @typedef {import("./objects.js").SegObject} SegObject */
/** @typedef {import("./objects.js").Mark} Mark */
/** @typedef {import("./messages.js").ServerError} ServerError */

/**
 * unsupported: by this browser. failed: it never came about, and is not tried again in sessions that follow by
 * themselves. lost: it was there.
 * @typedef {"unsupported" | "failed" | "lost"} FellBack
 *
 * @typedef {object} SessionHooks
 * @property {() => "track" | "image"} mode
 * @property {() => boolean} [wantsPeer] whether frames are to go over WebRTC
 * @property {() => HTMLCanvasElement} picture that is pointed at
 * @property {(ready: any) => void} onReady
 * @property {(result: any, picture: HTMLCanvasElement) => void} onResult objects know what it says already
 * @property {() => void} [onFilmed] a frame goes over WebRTC
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
    /** @type {Peer | null} */
    this.peer = null;
    /** Whether the session that there is takes frames over WebRTC too. */
    this.takesPeer = false;
    /** @type {FellBack | null} why frames do not go over WebRTC though they should */
    this.fellBack = null;
    /** @type {any[]} */
    this.iceServers = [];
    this.calledMs = -Infinity;
    /** @type {string | null} the offer whose answer is waited for */
    this.offerId = null;
    /** @type {number | null} since when no frame of the video was answered */
    this.unansweredMs = null;
    this.connection = new Connection(server, {
      start: () => this.start(),
      onMessage: (message) => this.answered(message),
      onReady: (ready) => this.begin(ready),
      onResumed: () => this.resumed(),
      onResult: (result) => this.result(result),
      onError: (error, request, mark) => this.failed(error, request, mark),
      onState: (state, why) => this.changed(state, why),
    });
    this.telling = new Telling(this.connection, objects, () => hooks.mode());
  }

  get state() {
    return this.connection.state;
  }

  /** Whether there is a session that knows the objects. */
  get settled() {
    return this.connection.ready && !this.rounds;
  }

  /** Whether results keep coming. Over WebRTC they do while the websocket is away for a moment. */
  get goesOn() {
    return this.settled || (this.connection.away && this.filming);
  }

  get hasRoom() {
    if (!this.goesOn || performance.now() < this.pausedUntilMs) return false;
    if (!this.filming) return this.frames.waiting < MOST_ON_THE_WAY;
    this.frames.giveUp();
    // A picture that was clicked on is to be segmented before any other.
    return this.frames.waiting === 0 && this.frames.filming < this.mostFilmed;
  }

  /** Whether frames go over WebRTC now. */
  get filming() {
    return this.peer?.connected ?? false;
  }

  /** Whether the frame of a result is guessed by the time, as a browser that tells no timestamps needs it. */
  get estimated() {
    return this.filming && /** @type {Peer} */ (this.peer).clock.estimated;
  }

  get mostFilmed() {
    // The first one is sent alone: whatever timestamp comes first is its own.
    if (!this.peer?.clock.known) return 1;
    const roundTripMs = this.peer.roundTripMs ?? 0;
    return Math.min(MOST_FILMED_ON_THE_WAY, MOST_ON_THE_WAY + Math.floor(roundTripMs / ROUND_TRIP_PER_FRAME_MS));
  }

  /** Fields of the `start` message. */
  start() {
    const wanted = this.hooks.wantsPeer?.() ?? false;
    if (wanted && !Peer.possible) this.fellBack = "unsupported";
    this.takesPeer = wanted && this.fellBack !== "unsupported" && this.fellBack !== "failed";
    const common = { masks: "rle", mode: this.hooks.mode(), carry: true };
    if (!this.takesPeer) return { source: "frames", ...common };
    const { width, height } = this.frames.sent;
    return { source: "webrtc", size_px: [width, height], ...common };
  }

  open() {
    this.connection.wake();
  }

  /**
   * Takes what the source shows now and sends it, whichever way frames go.
   * @param {HTMLVideoElement} source
   */
  take(source) {
    if (!this.filming) return this.frames.take(source);
    const takenMs = this.frames.film(source);
    this.unansweredMs ??= takenMs;
    // Connected, and yet nothing comes of it.
    if (takenMs - this.unansweredMs > STALLED_MS) return this.peer?.fail();
    void this.peer?.drawn(takenMs);
    this.hooks.onFilmed?.();
  }

  /**
   * Sends a frame. Returns whether there is a session.
   * @param {number} index
   * @param {number} timestampMs when it was taken
   * @param {Uint8Array} jpeg
   */
  send(index, timestampMs, jpeg) {
    // Frames of both ways are counted by the server; this one is told by its request.
    const name = this.takesPeer ? { request_id: `${FRAME}${index}` } : { index };
    return this.connection.frame({ ...name, timestamp_ms: timestampMs }, jpeg);
  }

  /** Another session for the same picture; the objects go on in it. */
  openAnew() {
    this.hangUp();
    this.fellBack = null;
    this.connection.close();
    this.connection.wake();
  }

  /** Frames have another size, which the session was told at its start if they go over WebRTC. */
  resized() {
    if (this.takesPeer && this.state !== "closed") this.openAnew();
  }

  /** Ends it, and forgets everything. */
  close() {
    this.hangUp();
    this.fellBack = null;
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
  tell(object, mark, on) {
    this.telling.tell(object, mark, this.frames.sent, on);
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
    else this.telling.undo();
  }

  /** @param {number} id */
  removed(id) {
    this.telling.remove(id);
  }

  cleared() {
    this.sightings.clear();
    this.telling.reset();
  }

  /** @param {any} ready */
  begin(ready) {
    this.pausedUntilMs = 0;
    this.frames.restart();
    this.rounds = this.sightings.rounds();
    this.iceServers = ready.ice_servers ?? [];
    this.hooks.onReady(ready);
    if (this.takesPeer) this.call();
    this.goOn();
  }

  /** The session that there was goes on, over another websocket. */
  resumed() {
    this.pausedUntilMs = 0;
    // What was on its way over the former websocket may never be answered.
    this.frames.giveUp(Infinity);
    if (this.takesPeer && !this.filming && this.fellBack !== "failed") this.call();
    this.goOn();
  }

  /** @param {any} message of the server */
  answered(message) {
    // One that was asked for before the websocket broke is of no use to another peer.
    if (message.type === "answer" && message.request_id === this.offerId) void this.peer?.answered(message.sdp);
  }

  /** Makes a WebRTC connection; until it is there frames go over the websocket. */
  call() {
    this.hangUp();
    this.calledMs = performance.now();
    this.peer = new Peer(this.frames.screen, this.iceServers, {
      offer: (sdp) => {
        this.offerId = this.connection.request({ type: "offer", sdp });
      },
      onResult: (result) => this.result(result),
      onConnected: () => {
        this.fellBack = null;
      },
      onFailed: (wasConnected) => this.peerFailed(wasConnected),
    });
  }

  hangUp() {
    this.peer?.close();
    this.peer = null;
    this.unansweredMs = null;
  }

  /**
   * The session goes on over the websocket.
   * @param {boolean} wasConnected
   */
  peerFailed(wasConnected) {
    this.hangUp();
    this.fellBack = wasConnected ? "lost" : "failed";
    this.frames.giveBack(this.frames.filmed.splice(0).map(({ picture }) => picture));
    if (wasConnected && this.connection.ready && performance.now() - this.calledMs > ANEW_AFTER_MS) this.call();
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

  /**
   * The picture that a result is of, and when it was taken; it is no longer on its way.
   * @param {any} result
   * @returns {{picture: HTMLCanvasElement | null, takenMs: number | undefined}}
   */
  arrived(result) {
    const { frames } = this;
    if (result.rtp_timestamp === undefined) {
      return { picture: frames.arrived(this.indexOf(result)), takenMs: result.timestamp_ms };
    }
    this.unansweredMs = null;
    const found = this.peer?.pictureOf(result, frames.filmed) ?? null;
    return { picture: found && frames.arrivedFilmed(found), takenMs: found?.takenMs };
  }

  /**
   * The index that this page gave a frame, as a result or an error tells it.
   * @param {{index?: number, request_id?: string}} message
   */
  indexOf({ index, request_id: name }) {
    if (!this.takesPeer) return index ?? -1;
    return name?.startsWith(FRAME) ? Number(name.slice(FRAME.length)) : -1;
  }

  /** @param {any} result */
  result(result) {
    const { frames, objects } = this;
    const { picture, takenMs } = this.arrived(result);
    // What the camera showed in the meantime says nothing of the picture that is being told again.
    if (this.rounds && result.rtp_timestamp !== undefined) return frames.giveBack([picture]);
    if (this.rounds) {
      frames.giveBack([picture]);
      this.goOn();
      return;
    }
    if (!picture || !objects.size) return frames.giveBack([picture]);
    objects.apply(result);
    this.hooks.onResult({ ...result, timestamp_ms: takenMs }, picture);
    frames.giveBack(this.sightings.note(picture, result.objects, (id) => objects.byId.has(id)));
  }

  /**
   * @param {ServerError} error
   * @param {Record<string, any> | null} request
   * @param {Mark | null} mark that the request told
   */
  failed(error, request, mark) {
    if (this.takesPeer && this.state === "connecting" && NO_PEER.has(error.code)) return this.refusedPeer();
    if (request?.type === "offer") return this.peer?.fail();
    if (error.code === "webrtc_failed") {
      // While a connection is being made, it is said of the former one.
      if (this.filming) this.peer?.fail();
      return;
    }
    if (error.code === "overloaded" || error.code === "rate_limited") {
      this.pausedUntilMs = performance.now() + 1000 * (error.retry_after_s ?? 1);
    }
    if (error.index !== undefined && !request) {
      this.frames.giveBack([this.frames.arrived(this.indexOf(error))]);
      if (this.rounds) this.goOn();
    }
    if (error.code === "frame_size") {
      if (this.objects.size) this.hooks.onShape();
      return;
    }
    if (this.telling.failed(error, request, mark)) this.hooks.onFailed(error);
  }

  /** The server takes no session over WebRTC; it takes one over the websocket. */
  refusedPeer() {
    this.openAnew();
    this.fellBack = "failed";
  }

  /**
   * @param {import("./connection.js").ConnectionState} state
   * @param {string} why
   */
  changed(state, why) {
    // A session that was still being told of the objects knows too little to go on.
    if (this.rounds && state !== "ready") this.connection.forget();
    if (state !== "ready" && !this.connection.away) {
      this.hangUp();
      this.rounds = null;
      this.objects.history.sessionEnded((id) => this.sightings.has(id));
      this.objects.onChange();
    }
    this.hooks.onState(state, why);
  }
}
