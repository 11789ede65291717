/**
 * Times as a person reads them.
 */

/** The time of a frame may have been rounded, up or down, by whoever told it. */
const ROUNDING_S = 0.001;

/**
 * A moment within the frame that begins then.
 * @param {number} timeS
 */
export function within(timeS) {
  return timeS + ROUNDING_S;
}

/**
 * A moment before the frame that begins then, and after the one before it.
 * @param {number} timeS
 */
export function justBefore(timeS) {
  return Math.max(0, timeS - ROUNDING_S);
}

/**
 * A place in a video: 0:03.20, or 1:02:03.20 from an hour on.
 * @param {number} seconds
 * @param {number} [digits] after the point
 */
export function clock(seconds, digits = 2) {
  const unit = 10 ** digits;
  const total = Math.round(Math.max(0, seconds) * unit);
  const whole = Math.floor(total / unit);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const rest = String(whole % 60).padStart(2, "0");
  const fraction = digits ? `.${String(total % unit).padStart(digits, "0")}` : "";
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}${fraction}` : `${minutes}:${rest}${fraction}`;
}

/**
 * How long something takes, roughly.
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 1.5) return "1 second";
  if (seconds < 55) return `${Math.round(seconds)} seconds`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return minutes <= 1 ? "1 minute" : `${minutes} minutes`;
  const hours = Math.floor(minutes / 60);
  return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
}
