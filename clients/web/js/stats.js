/**
 * What the page knows about speed: pictures in, masks out, the delay between them, and where it was spent.
 */

const WINDOW_MS = 2000;
const MOST_KEPT = 120;

/**
 * The value below which a share of all values lies, in between where that falls between two.
 * @param {number[]} values
 * @param {number} share 0 to 1
 */
export function quantile(values, share) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

/** @param {number[]} values */
export function median(values) {
  return quantile(values, 0.5);
}

/** How often something happened over the last two seconds. */
export class Rate {
  constructor() {
    /** @type {number[]} */
    this.times = [];
  }

  /** @param {number} nowMs */
  note(nowMs) {
    this.times.push(nowMs);
    // Nobody may be asking.
    if (this.times.length > 1000) this.times = this.times.slice(-500);
  }

  /**
   * Per second; null before it happened twice.
   * @param {number} nowMs
   */
  perSecond(nowMs) {
    this.times = this.times.filter((time) => nowMs - time < WINDOW_MS);
    if (this.times.length < 2) return null;
    const span = this.times[this.times.length - 1] - this.times[0];
    return span > 0 ? ((this.times.length - 1) * 1000) / span : null;
  }
}

export class Stats {
  constructor() {
    this.reset();
  }

  reset() {
    this.camera = new Rate();
    this.sent = new Rate();
    this.masks = new Rate();
    /** @type {number[]} */
    this.delays = [];
    /** @type {Record<string, number>[]} */
    this.timings = [];
    this.dropped = 0;
    this.results = 0;
    /** Whether it is known when frames were taken; else their delay is what the server spent on them. */
    this.timed = true;
  }

  /**
   * A result came.
   * @param {number} nowMs
   * @param {number | null} sentMs when its frame was taken; null: nobody knows
   * @param {number} dropped frames that the server skipped in this session
   * @param {Record<string, number>} [timingsMs] milliseconds per stage on the server
   */
  add(nowMs, sentMs, dropped, timingsMs = {}) {
    this.masks.note(nowMs);
    this.timed = sentMs !== null;
    keep(this.delays, sentMs === null ? sum(Object.values(timingsMs)) : nowMs - sentMs);
    keep(this.timings, timingsMs);
    this.dropped = dropped;
    this.results++;
  }

  /**
   * Results per second, null before there are two.
   * @param {number} nowMs
   */
  fps(nowMs) {
    return this.masks.perSecond(nowMs);
  }

  delayMs() {
    return quantile(this.delays, 0.5);
  }

  slowDelayMs() {
    return quantile(this.delays, 0.95);
  }

  /**
   * Medians of what each stage took, in the order of the server, and of what is left of the delay: the ways there and
   * back, waiting behind the frame before, and this page.
   * @returns {{stage: string, ms: number}[]}
   */
  stages() {
    const names = new Set(this.timings.flatMap((timings) => Object.keys(timings)));
    const stages = [...names].map((stage) => ({
      stage,
      ms: median(this.timings.map((timings) => timings[stage]).filter((ms) => ms !== undefined)) ?? 0,
    }));
    const delayMs = this.delayMs();
    if (this.timed && stages.length && delayMs !== null) {
      stages.push({ stage: "way", ms: Math.max(0, delayMs - sum(stages.map(({ ms }) => ms))) });
    }
    return stages;
  }
}

/** @param {number[]} values */
function sum(values) {
  return values.reduce((all, value) => all + value, 0);
}

/**
 * @template Value
 * @param {Value[]} values
 * @param {Value} value
 */
function keep(values, value) {
  values.push(value);
  if (values.length > MOST_KEPT) values.shift();
}
