/**
 * Which picture a frame shows that the server names by its RTP timestamp: 90 kHz from a random start, see
 * `docs/webrtc.md`.
 *
 * Where the browser tells the timestamps of the frames that it sends, that is known: pictures and frames come in the
 * same order. Where it does not, it is estimated from the time that frames and results are on their way.
 */

import { ahead } from "./result-parts.js";
import { median } from "./stats.js";

const TICKS_PER_MS = 90;
/** Enough for every frame that an answer may still come for. */
const MOST_KEPT = 64;
/** What the estimate is made from: enough to be steady, few enough to follow a network that changes. */
const MOST_GUESSES = 15;

export class RtpClock {
  constructor() {
    /** @type {number[]} when the pictures were taken of which no frame was sent yet */
    this.unsentMs = [];
    /** @type {{rtp: number, takenMs: number}[]} frames that were sent, and when their pictures were taken */
    this.frames = [];
    /** @type {{rtp: number, atMs: number}[]} what timestamps seem to stand for */
    this.guesses = [];
  }

  /** Whether moments are guessed rather than known. */
  get estimated() {
    return this.frames.length === 0;
  }

  /** Whether anything is known of the sender's timestamps. */
  get known() {
    return this.frames.length > 0 || this.guesses.length > 0;
  }

  /**
   * A picture goes to the browser's encoder.
   * @param {number} takenMs
   */
  taken(takenMs) {
    keep(this.unsentMs, takenMs, MOST_KEPT);
  }

  /**
   * The browser sends a frame.
   * @param {number} rtp
   * @param {number} encodedMs when it came out of the encoder
   */
  sent(rtp, encodedMs) {
    const possible = this.unsentMs.filter((takenMs) => takenMs <= encodedMs);
    // Without a new picture it is the former one again.
    let shown = this.frames.at(-1)?.takenMs;
    if (possible.length) {
      // Of several the encoder has left some out, or is still at work on the newest.
      const atMs = possible.length > 1 ? this.momentOf(rtp) : null;
      shown = atMs === null ? possible[possible.length - 1] : nearest(possible, atMs, (takenMs) => takenMs);
    }
    if (shown === undefined) return;
    const takenMs = shown;
    if (possible.length === 1) keep(this.guesses, { rtp, atMs: takenMs }, MOST_GUESSES);
    this.unsentMs = this.unsentMs.filter((other) => other > takenMs);
    keep(this.frames, { rtp, takenMs }, MOST_KEPT);
  }

  /**
   * A result came, of a frame that was on its way there and back for so long.
   * @param {number} rtp
   * @param {number} nowMs
   * @param {number} wayMs
   */
  answered(rtp, nowMs, wayMs) {
    if (this.estimated) keep(this.guesses, { rtp, atMs: nowMs - wayMs }, MOST_GUESSES);
  }

  /**
   * When the picture of a frame was taken, by the timestamp alone.
   * @param {number} rtp
   * @returns {number | null} null: nothing is known of the sender's timestamps yet
   */
  momentOf(rtp) {
    return median(this.guesses.map((guess) => guess.atMs + ahead(rtp, guess.rtp) / TICKS_PER_MS));
  }

  /**
   * The picture that a frame shows.
   * @template {{takenMs: number}} Picture
   * @param {number} rtp
   * @param {Picture[]} pictures in the order in which they were taken
   * @returns {Picture | null} null: it is none of them, or it cannot be told
   */
  pictureOf(rtp, pictures) {
    const frame = this.frames.findLast((one) => one.rtp === rtp);
    if (frame) return pictures.find(({ takenMs }) => takenMs === frame.takenMs) ?? null;
    const atMs = this.momentOf(rtp);
    return atMs === null || !pictures.length ? null : nearest(pictures, atMs, ({ takenMs }) => takenMs);
  }
}

/**
 * @template Thing
 * @param {Thing[]} things at least one
 * @param {number} atMs
 * @param {(thing: Thing) => number} timeOf
 */
function nearest(things, atMs, timeOf) {
  const distance = (/** @type {Thing} */ thing) => Math.abs(timeOf(thing) - atMs);
  return things.reduce((best, thing) => (distance(thing) < distance(best) ? thing : best));
}

/**
 * @template Thing
 * @param {Thing[]} things
 * @param {Thing} thing
 * @param {number} most
 */
function keep(things, thing, most) {
  things.push(thing);
  if (things.length > most) things.shift();
}
