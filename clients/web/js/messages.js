/**
 * Failures in words that a person understands: what happened, and what to do about it.
 */

import { duration } from "./times.js";

/** @typedef {{code: string, message: string, index?: number, retry_after_s?: number | null}} ServerError */

/** @type {Record<string, string>} */
const CAMERA = {
  NotAllowedError:
    "The camera is blocked. Allow it for this page (the camera sign in the address bar), then try again. The sample clip works without a camera.",
  NotFoundError: "No camera was found. Plug one in, or use the sample clip.",
  OverconstrainedError: "This camera cannot deliver a usable picture. Choose another one, or use the sample clip.",
  NotReadableError: "The camera is in use by another program. Close that program, then try again.",
  AbortError: "The camera stopped before it delivered a picture. Try again.",
  SecurityError: "This browser, or whoever manages it, allows no cameras here. The sample clip works without one.",
};
const CAMERA_FAILED = "The camera could not be started. Try again, or use the sample clip.";
const CAMERA_BLOCKED_BY_SYSTEM =
  "This computer does not let the browser use the camera. Allow it in the system's privacy settings, then try again.";

/** @param {unknown} error what getUserMedia threw */
export function cameraProblem(error) {
  if (!(error instanceof Error || error instanceof DOMException)) return CAMERA_FAILED;
  const { name, message } = error;
  if (name === "NotAllowedError" && /system/i.test(message)) return CAMERA_BLOCKED_BY_SYSTEM;
  return CAMERA[name] ?? CAMERA_FAILED;
}

export const CAMERA_NEEDS_HTTPS =
  "Browsers only give a camera to pages on https or on localhost. Open this page that way, or use the sample clip.";
export const CAMERA_ENDED = "The camera was unplugged or taken away. Start it again when it is back.";
export const CLIP_FAILED = "The sample clip could not be played by this browser.";
export const TOKEN_NEEDED = "This server asks for a token. Whoever runs it can tell you.";
export const TOKEN_WRONG = "That token was not accepted. Check it and try again.";
export const UNREACHABLE = "The server does not answer. It may be restarting; trying again.";
const SERVER_BUSY = "The server is full at the moment. Trying again.";
export const NOT_CONNECTED_YET = "Not connected to the server yet. Try that click again in a moment.";
export const NO_PICTURE_YET = "There is no picture yet. Click when it is there.";
export const TOO_MANY_OBJECTS = "That is as many objects as this server follows at a time. Delete one first.";
export const NOTHING_TO_UNDO = "There is nothing to undo.";
export const DELETION_STAYS = "A deletion cannot be undone. Click the object again.";
export const NOTHING_FOUND = "Nothing was found there. Click well inside the object, or drag a box around it.";
export const OTHER_SHAPE = "The picture has another shape now. Click your objects again.";
export const PICTURE_NOT_READY = "The picture is still being read. Try that click again in a moment.";
export const SAMPLE_FAILED = "That sample could not be loaded. Try again, or choose a file.";
export const EMPTY_FILE = "This file is empty. Choose a picture.";
export const FILE_TOO_LARGE = "This file is larger than the server takes. Choose a smaller picture.";

/**
 * After an object was deleted, the last click on another one was taken back.
 * @param {string} name of that one
 */
export function undoneInstead(name) {
  return `A deletion cannot be undone. The last click on ${name} was taken back instead.`;
}

/** @type {Record<string, string>} by what Connection says of it */
const CONNECTION = {
  busy: SERVER_BUSY,
  unreachable: UNREACHABLE,
  no_session:
    "The server answers, but takes no session: it is full, or something on the way to it does not let websockets through. Trying again.",
  offline: "This device is offline. The page comes back by itself when it is not.",
};

/** @type {Record<string, string>} the same, of a session that there was */
const SESSION_ENDED = {
  lost: "Connection lost. Trying again; clicks have to wait.",
  restarting: "Connection lost: the server is restarting. Trying again; clicks have to wait.",
  fault: "Connection lost: something went wrong on the server. Trying again; clicks have to wait.",
  slowed: "The server ended the session: too many messages in a short time. Starting another one.",
};

/**
 * @param {string} why there is no connection
 * @param {boolean} following whether there are objects that go on in the next session
 * @returns {string | null} null: there is nothing to say
 */
export function connectionProblem(why, following) {
  const ended = SESSION_ENDED[why];
  if (ended) return following ? `${ended} Your objects go on from where they were last seen.` : ended;
  return CONNECTION[why] ?? null;
}

/** @type {Record<import("./live-session.js").FellBack, string>} why frames go over the websocket */
export const TRANSPORT_FELL_BACK = {
  unsupported: "This browser has no WebRTC.",
  failed: "WebRTC did not get through to the server; the websocket serves as well.",
  lost: "The WebRTC connection was lost; the websocket took over.",
};

export const STREAM_ANEW = "The stream was opened anew and its objects are gone. Click them again.";

/** @type {Record<import("./stream-session.js").SourceState, string>} over the picture of a stream; empty: it is live */
export const SOURCE_WAITING = {
  connecting: "Waiting for the first picture …",
  live: "",
  lost: "No new pictures. Waiting for them …",
  ended: "",
};

/** @param {string} why as the server says it */
export function sourceLost(why) {
  // What it says of its next try passes in a moment.
  const [known] = why.split(/(?:; )?trying again in/);
  const reason = known ? `: ${known}` : "";
  return `${sentence(`No new pictures${reason}`)} The stream goes on, with your objects, as soon as it is back.`;
}

/**
 * @param {string} title of the stream
 * @param {string} why as the server says it
 */
export function streamEnded(title, why) {
  return `${title}: ${sentence(why || "the stream has ended")} You can open it again, or look at something else.`;
}

/**
 * Why a stream cannot be looked at.
 * @param {ServerError} error
 * @param {import("./stream-session.js").Wanted} wanted
 */
export function streamProblem(error, { url, name }) {
  const { code, message } = error;
  switch (code) {
    case "address_refused":
      if (/network\.enabled/.test(message)) return ADDRESSES_OFF;
      if (/^this is no address/.test(message)) return problem(message);
      return `This server does not open that address: ${sentence(message)}`;
    case "stream_unavailable":
    case "unsupported_media":
    case "too_large":
      if (/\b40[13]\b/.test(message)) return url === null ? STREAM_LOGIN : CAMERA_LOGIN;
      if (/\b404\b/.test(message)) return NO_SUCH_STREAM;
      return `No picture comes from there: ${sentence(message)} Check ${url === null ? "" : "the address, and "}that the camera is on.`;
    case "not_found":
      return `There is no stream ${name} any more. Choose another one.`;
    case "bad_state":
      return `There is a stream ${name} already. Take another name, or look at that one.`;
    case "overloaded":
      return "This server looks at as many network cameras as it may. Try again when one of them is closed.";
    default:
      return serverProblem(error);
  }
}

const ADDRESSES_OFF =
  "This server opens no addresses. Whoever runs it can allow that (its settings network.enabled and network.allow).";
const CAMERA_LOGIN = "The camera does not accept that user and password. Check both, under “Password and sharing”, and connect again.";
const STREAM_LOGIN = "The camera does not accept the password that the server has for it. Whoever runs the server can change it.";
const NO_SUCH_STREAM = "The camera answers, but has no stream at that address. Check what comes after the host; its manual tells.";

export const BACKGROUND_FAILED = "This file is not a picture that this browser can show. Choose another one.";
export const SNAPSHOT_FAILED = "The picture could not be saved. Try again.";
export const RECORDING_UNSUPPORTED = "This browser cannot record. A current Chrome, Edge, Firefox or Safari can.";
export const RECORDING_FAILED = "The recording failed, perhaps for want of memory. Nothing of it was kept.";

export const EMPTY_VIDEO = "This file is empty. Choose a video.";
export const NO_VIDEO =
  "This is not a video that can be used here. MP4, MOV, WebM, MKV, AVI, MPEG-TS, GIF and animated WebP can.";
export const FILE_UNREADABLE = "The file could not be read any more. It may have been moved or changed; choose it again.";
export const JOB_LOST =
  "Connection lost before the video was done. Nothing of it was kept; press Process to try again from the beginning.";
export const NOTHING_DONE = "The server stopped before there was anything to keep. Press Process to try again.";
const JOB_BUSY = "The server is busy with other videos. Your clicks are kept; press Process again in a moment.";
export const JOB_RUNNING = "The video is being processed. Wait until it is done, or stop it, then change your clicks.";
export const RESULT_GONE = "The result is no longer on the server. Press Process again to make it anew.";
export const VIDEO_BROKEN = "This browser stopped being able to play this video. Choose it again, or choose another one.";

/**
 * Why a job on a video was not begun.
 * @param {ServerError} error
 */
export function jobProblem(error) {
  return error.code === "overloaded" ? JOB_BUSY : serverProblem(error);
}

/** @param {string} why of a connection that ended */
export function jobLost(why) {
  if (why === "busy") return JOB_BUSY;
  return why === "unreachable" ? "The server does not answer. Press Process again when it is back." : JOB_LOST;
}

/** @param {number} bytes @param {number} most */
export function videoTooLarge(bytes, most) {
  return `This video has ${sizeOf(bytes)}; this server takes up to ${sizeOf(most)}. Choose a shorter or smaller one.`;
}

/** @param {number} seconds @param {number} most */
export function videoTooLong(seconds, most) {
  return `This video lasts ${duration(seconds)}; this server takes up to ${duration(most)}. Choose a shorter one.`;
}

/**
 * @param {ServerError} error
 * @returns {string}
 */
export function serverProblem(error) {
  switch (error.code) {
    case "unsupported_media":
      return `This file cannot be used: ${sentence(error.message)}`;
    case "too_large":
      return `This file is too large: ${sentence(error.message)}`;
    case "bad_prompt":
      // That the model finds nothing turns out with the frame; what is wrong with a click itself is said at once.
      return error.index === undefined ? `That click could not be used: ${sentence(error.message)}` : NOTHING_FOUND;
    case "frame_size":
      return "The picture changes its shape here, and objects cannot be followed across that.";
    case "overloaded":
      return SERVER_BUSY;
    case "rate_limited":
      return "Too many messages in a short time. Slowing down.";
    case "unauthorized":
      return TOKEN_NEEDED;
    case "forbidden_origin":
      return "This server does not accept this page's address. Open the page that the server itself shows.";
    case "out_of_memory":
      return "The server ran out of memory for this. Try fewer objects or a smaller picture.";
    case "unsupported_version":
      return "The server is of another version than this page. Reload the page.";
    default:
      return sentence(error.message || "Something went wrong on the server");
  }
}

/** @param {number} bytes @param {number} most */
export function fileTooLarge(bytes, most) {
  return `This file has ${sizeOf(bytes)}; this server takes pictures of up to ${sizeOf(most)}.`;
}

/** @param {number} bytes */
export function sizeOf(bytes) {
  if (bytes < 2 ** 20 / 10) return `${Math.max(1, Math.round(bytes / 1024))} kB`;
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(bytes < 10 * 2 ** 30 && bytes % 2 ** 30 ? 1 : 0)} GB`;
  return `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MB`;
}

/** @param {string} text what was wrong with a video and survivable */
export function problem(text) {
  return sentence(text.charAt(0).toUpperCase() + text.slice(1));
}

/** @param {string} text */
export function sentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
