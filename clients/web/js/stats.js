/**
 * What the page shows about speed: results per second and the delay from camera to mask.
 */

const WINDOW_MS = 2000;
const MOST_DELAYS = 60;

/** @param {number[]} values */
export function median(values) {
  if (!values.length) return null;
  const sorted = values.toSorted ? values.toSorted((a, b) => a - b) : [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export class Stats {
  constructor() {
    this.reset();
  }

  reset() {
    /** @type {number[]} */
    this.times = [];
    /** @type {number[]} */
    this.delays = [];
    this.dropped = 0;
    this.results = 0;
  }

  /**
   * @param {number} nowMs
   * @param {number} sentMs when its frame was taken
   * @param {number} dropped frames that the server skipped in this session
   */
  add(nowMs, sentMs, dropped) {
    this.times.push(nowMs);
    this.delays.push(nowMs - sentMs);
    if (this.delays.length > MOST_DELAYS) this.delays.shift();
    this.dropped = dropped;
    this.results++;
  }

  /**
   * Results per second over the last two seconds, null before there are two.
   * @param {number} nowMs
   */
  fps(nowMs) {
    this.times = this.times.filter((time) => nowMs - time < WINDOW_MS);
    if (this.times.length < 2) return null;
    const span = this.times[this.times.length - 1] - this.times[0];
    return span > 0 ? ((this.times.length - 1) * 1000) / span : null;
  }

  delayMs() {
    return median(this.delays);
  }
}
