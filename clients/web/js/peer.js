/**
 * A WebRTC connection to the server: pictures there, as the video of a canvas, and results back over a data channel.
 * It is made once; whoever wants another one after it failed makes another one.
 */

import { ResultParts } from "./result-parts.js";
import { RtpClock } from "./rtp-clock.js";
import { median } from "./stats.js";

const CHANNEL_LABEL = "streamseg.results.v1";
/** A browser may look for addresses for half a minute; those of this network are there at once. */
const GATHERING_MS = 2000;
/** Waiting longer gains little: frames go over the websocket in the meantime. */
const CONNECT_MS = 5000;
/** A connection that was interrupted often comes back within a moment. */
const INTERRUPTED_MS = 2000;
const ECHO_EVERY_MS = 1000;
const MOST_ROUND_TRIPS = 10;
/** Masks are found in pictures that are sharp; a video call would be content with a third of this. */
const MOST_BITS_PER_S = 2_500_000;
const FIRST_KBITS_PER_S = 2000;

/**
 * @typedef {object} PeerOwner
 * @property {(sdp: string) => void} offer to be sent to the server
 * @property {(result: any) => void} onResult
 * @property {() => void} onConnected
 * @property {(wasConnected: boolean) => void} onFailed called at most once, and not after close()
 */

export class Peer {
  /** Whether this browser can do it at all. */
  static get possible() {
    return "RTCPeerConnection" in globalThis && "captureStream" in document.createElement("canvas");
  }

  /**
   * @param {HTMLCanvasElement} canvas every change of it is sent
   * @param {RTCIceServer[]} iceServers
   * @param {PeerOwner} owner
   */
  constructor(canvas, iceServers, owner) {
    // A canvas has no video before it was given something to draw with.
    canvas.getContext("2d");
    this.owner = owner;
    this.parts = new ResultParts();
    this.clock = new RtpClock();
    this.closed = false;
    this.connected = false;
    /** @type {number[]} */
    this.roundTripsMs = [];
    /** @type {RTCRtpSender | null} */
    this.sender = null;
    /** @type {Worker | null} */
    this.worker = null;
    this.canvas = canvas;
    /** @type {MediaStreamTrack | null} */
    this.track = null;
    this.connection = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    this.channel = this.connection.createDataChannel(CHANNEL_LABEL, { ordered: false, maxRetransmits: 0 });
    this.channel.binaryType = "arraybuffer";
    this.channel.onopen = () => this.opened();
    this.channel.onclose = () => this.fail();
    this.channel.onmessage = ({ data }) => this.heard(data);
    this.connection.onconnectionstatechange = () => this.changed();
    this.connectTimer = setTimeout(() => this.fail(), CONNECT_MS);
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.interruptedTimer = undefined;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this.echoTimer = undefined;
    void this.call();
  }

  async call() {
    const { connection } = this;
    try {
      const sendEncodings = [{ maxBitrate: MOST_BITS_PER_S }];
      const { sender } = connection.addTransceiver("video", { direction: "sendonly", sendEncodings });
      this.sender = sender;
      this.watch(sender);
      await connection.setLocalDescription();
      await gathered(connection);
      if (!this.closed) this.owner.offer(/** @type {RTCSessionDescription} */ (connection.localDescription).sdp);
    } catch {
      this.fail();
    }
  }

  /** @param {RTCRtpSender} sender */
  watch(sender) {
    if (!("RTCRtpScriptTransform" in globalThis)) return;
    this.worker = new Worker(new URL("./peer-worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data: { rtp, atMs } }) =>
      this.clock.sent(rtp, atMs - performance.timeOrigin);
    sender.transform = new RTCRtpScriptTransform(this.worker, {});
  }

  /**
   * The canvas has a picture to send. Not before the first one is there: a canvas sends what it holds when its track is
   * made, and an empty picture would be followed like any other.
   * @param {number} takenMs when the picture was taken
   */
  async drawn(takenMs) {
    this.clock.taken(takenMs);
    if (this.track || this.closed) return;
    this.track = this.canvas.captureStream().getVideoTracks()[0];
    this.track.contentHint = "motion";
    try {
      await this.sender?.replaceTrack(this.track);
    } catch {
      this.fail();
    }
  }

  /** @param {string} sdp */
  async answered(sdp) {
    try {
      if (!this.closed) await this.connection.setRemoteDescription({ type: "answer", sdp: sharp(sdp) });
    } catch {
      this.fail();
    }
  }

  opened() {
    if (this.closed) return;
    clearTimeout(this.connectTimer);
    this.connected = true;
    this.echoTimer = setInterval(() => this.askForEcho(), ECHO_EVERY_MS);
    this.askForEcho();
    this.owner.onConnected();
  }

  askForEcho() {
    if (this.channel.readyState === "open") this.channel.send(String(performance.now()));
  }

  /** @param {string | ArrayBuffer} data */
  heard(data) {
    if (this.closed) return;
    if (typeof data === "string") {
      this.roundTripsMs.push(performance.now() - Number(data));
      if (this.roundTripsMs.length > MOST_ROUND_TRIPS) this.roundTripsMs.shift();
      return;
    }
    const result = this.parts.take(data);
    if (result) this.owner.onResult(result);
  }

  /** @returns {number | null} the way there and back, without any work at the server */
  get roundTripMs() {
    return median(this.roundTripsMs);
  }

  /**
   * The picture that a result belongs to; null: it cannot be told.
   * @template {{takenMs: number}} Picture
   * @param {any} result
   * @param {Picture[]} pictures in the order in which they were taken
   */
  pictureOf(result, pictures) {
    const { rtp_timestamp: rtp, timings_ms: timingsMs = {} } = result;
    if (rtp === undefined) return null;
    if (this.clock.estimated && this.roundTripMs !== null) {
      const spentMs = Object.values(timingsMs).reduce((sum, ms) => sum + Number(ms), 0);
      this.clock.answered(rtp, performance.now(), this.roundTripMs + spentMs);
    }
    return this.clock.pictureOf(rtp, pictures);
  }

  changed() {
    const { connectionState } = this.connection;
    clearTimeout(this.interruptedTimer);
    if (connectionState === "failed") this.fail();
    if (connectionState === "disconnected") this.interruptedTimer = setTimeout(() => this.fail(), INTERRUPTED_MS);
  }

  fail() {
    if (this.closed) return;
    const wasConnected = this.connected;
    this.close();
    this.owner.onFailed(wasConnected);
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.connected = false;
    clearTimeout(this.connectTimer);
    clearTimeout(this.interruptedTimer);
    clearInterval(this.echoTimer);
    this.track?.stop();
    this.connection.close();
    this.worker?.terminate();
  }
}

/**
 * The answer, with which the video begins sharp and stays so. On a busy server frames are read at uneven times, which
 * its estimate of the bandwidth (REMB) takes for a full network: it was seen to fall below 100 kbit/s on one machine.
 * Frames wait for the answers to the former ones here, so that no more is sent than comes through, and loss still makes
 * the browser send less.
 * @param {string} sdp
 */
export function sharp(sdp) {
  const lines = sdp.split(/\r?\n/).filter((line) => line && !/^a=rtcp-fb:\S+ goog-remb$/.test(line));
  const start = `x-google-start-bitrate=${FIRST_KBITS_PER_S}`;
  for (const [, type] of sdp.matchAll(/^a=rtpmap:(\d+) (?:VP8|H264)\//gm)) {
    const at = lines.findIndex((line) => line.startsWith(`a=fmtp:${type} `));
    if (at >= 0) lines[at] += `;${start}`;
    else {
      const codec = lines.findIndex((line) => line.startsWith(`a=rtpmap:${type} `));
      lines.splice(codec + 1, 0, `a=fmtp:${type} ${start}`);
    }
  }
  return lines.map((line) => `${line}\r\n`).join("");
}

/** @param {RTCPeerConnection} connection */
function gathered(connection) {
  return /** @type {Promise<void>} */ (
    new Promise((resolve) => {
      const look = () => connection.iceGatheringState === "complete" && resolve();
      connection.addEventListener("icegatheringstatechange", look);
      setTimeout(resolve, GATHERING_MS);
      look();
    })
  );
}
