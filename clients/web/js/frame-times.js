/**
 * When the frames of a video begin, in a browser that does not tell it of a frame that was sought. Firefox tells the
 * moment that was sought instead, and the frame's own only while it plays. Frames count as evenly spaced there, as they
 * are in almost every recording; where they are not, a step may stay on its frame or leave one out, and a click still
 * means the frame that is shown.
 */

/** How far a moment that a browser tells may be from the one that it was sent to. */
const TOLD_S = 0.0001;
/** Within the first frame of any video, and not its beginning. */
const A_LITTLE_S = 0.0005;
const ANSWERED_MS = 500;
/** Slowly, so that none is left out on a busy machine. */
const LEARNING_RATE = 0.5;
const ENOUGH_FRAMES = 8;
const LEARNING_MS = 3000;
/** Some containers round to this. */
const ROUNDED_TO_S = 0.001;
const NEARLY = 0.0001;

/** @type {boolean | undefined} whether this browser tells it; undefined: nobody asked yet */
let tells;

/**
 * @param {number} toldS
 * @param {number} soughtS
 */
export function isSought(toldS, soughtS) {
  return Math.abs(toldS - soughtS) < TOLD_S;
}

/**
 * The same frame is the same moment, whoever told its beginning.
 * @param {number} beginS
 * @param {number} distanceS
 */
export function evenBegin(beginS, distanceS) {
  const evenS = Math.max(0, Math.round(beginS / distanceS) * distanceS);
  return Math.abs(beginS - evenS) < ROUNDED_TO_S ? evenS : beginS;
}

/**
 * @param {number[]} timesS when frames began, in order; some may be left out
 * @returns {number | null} the distance of two frames; null: there is none
 */
export function evenDistance(timesS) {
  const [firstS] = timesS;
  const gapsS = timesS.slice(1).map((timeS, at) => timeS - timesS[at]);
  const leastS = Math.min(...gapsS.filter((gapS) => gapS > ROUNDED_TO_S));
  if (!Number.isFinite(leastS)) return null;
  // The further apart, the less does it matter that times were rounded.
  const distanceS = timesS.reduce((bestS, timeS) => {
    const frames = Math.round((timeS - firstS) / bestS);
    return frames > 0 ? (timeS - firstS) / frames : bestS;
  }, leastS);
  return usual(distanceS, timesS[timesS.length - 1] - firstS);
}

/**
 * The rates that cameras have are whole numbers, or those of television; over hours a millionth makes a frame.
 * @param {number} distanceS
 * @param {number} spanS that it was measured over
 */
function usual(distanceS, spanS) {
  const whole = 1 / Math.round(1 / distanceS);
  const television = 1.001 / Math.round(1.001 / distanceS);
  const isNearly = (/** @type {number} */ other, /** @type {number} */ share) => Math.abs(other / distanceS - 1) < share;
  if (isNearly(whole, NEARLY)) return whole;
  if (isNearly(television, NEARLY)) return television;
  return isNearly(whole, ROUNDED_TO_S / spanS) ? whole : distanceS;
}

/**
 * @param {HTMLVideoElement} video at its beginning, paused; it is there again afterwards
 * @param {number} firstS when its first frame begins
 * @param {(timeS: number) => Promise<boolean>} goTo resolves when the video is there, or never will be
 * @returns {Promise<number | null>} null: this browser tells when frames begin, or it could not be learned
 */
export async function learnDistance(video, firstS, goTo) {
  if (tells || !("requestVideoFrameCallback" in video)) return null;
  const startS = video.currentTime;
  const soughtS = firstS + A_LITTLE_S;
  const told = frames(video, 1, ANSWERED_MS);
  if (!(await goTo(soughtS))) return null;
  const [toldS] = await told;
  if (toldS !== undefined) tells = !isSought(toldS, soughtS);
  const distanceS = tells === false ? await played(video) : null;
  await goTo(startS);
  return distanceS;
}

/** @param {HTMLVideoElement} video */
async function played(video) {
  const { muted, playbackRate } = video;
  video.muted = true;
  video.playbackRate = LEARNING_RATE;
  try {
    const seen = frames(video, ENOUGH_FRAMES, LEARNING_MS);
    await video.play();
    // The first one still tells the moment that was sought.
    return evenDistance((await seen).filter((timeS, at, all) => at > 0 && timeS > all[at - 1]));
  } catch {
    return null;
  } finally {
    video.pause();
    Object.assign(video, { muted, playbackRate });
  }
}

/**
 * What is told of the next frames that are shown.
 * @param {HTMLVideoElement} video
 * @param {number} most
 * @param {number} mostMs
 * @returns {Promise<number[]>}
 */
function frames(video, most, mostMs) {
  return new Promise((resolve) => {
    /** @type {number[]} */
    const timesS = [];
    const end = () => {
      clearTimeout(timer);
      video.cancelVideoFrameCallback(asked);
      video.removeEventListener("ended", end);
      resolve(timesS);
    };
    /** @type {VideoFrameRequestCallback} */
    const noted = (_now, { mediaTime }) => {
      timesS.push(mediaTime);
      if (timesS.length >= most) end();
      else asked = video.requestVideoFrameCallback(noted);
    };
    const timer = setTimeout(end, mostMs);
    let asked = video.requestVideoFrameCallback(noted);
    video.addEventListener("ended", end);
  });
}
