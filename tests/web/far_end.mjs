/**
 * What the page's modules meet in a browser, as far as their tests need it.
 */

import { unpack } from "../../clients/web/js/protocol.js";

/** The other end of the wire, in the test's hands. */
export class Wire {
  static all = [];

  constructor() {
    this.sent = [];
    Wire.all.push(this);
  }

  static get newest() {
    return Wire.all.at(-1);
  }

  send(data) {
    this.sent.push(typeof data === "string" ? JSON.parse(data) : unpack(data.buffer).header);
  }

  close() {}

  open() {
    this.onopen();
    this.say({ type: "ready", session_id: "the session", limits: { max_objects: 64, resume_s: 30 } });
  }

  /** The websocket breaks. */
  lose() {
    return this.onclose({ code: 1006 });
  }

  /** The session goes on. */
  resume(received = []) {
    this.onopen();
    const known = { session_id: "the session", resumed: true, newest_index: null, object_ids: [], received };
    this.say({ type: "ready", limits: { max_objects: 64, resume_s: 30 }, ...known });
  }

  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }

  /** What was sent after the start, in few words. */
  get said() {
    return this.sent.slice(1).map(({ type, object_id, mask, index }) => {
      return [type, mask ? `mask ${object_id}` : (object_id ?? index)].filter((word) => word !== undefined).join(" ");
    });
  }
}

/** As much of a canvas as frames need: it remembers what was drawn on it last. */
export class Canvas {
  getContext() {
    return { drawImage: (source) => (this.drawn = source) };
  }

  captureStream() {
    return { getVideoTracks: () => [{ stop: () => {} }] };
  }

  toBlob(done) {
    done(new Blob([Uint8Array.of(1)]));
  }
}

/** A WebRTC connection, its other end in the test's hands. */
export class FarPeer {
  static all = [];
  iceGatheringState = "complete";
  connectionState = "new";
  sent = [];

  constructor() {
    FarPeer.all.push(this);
  }

  static get newest() {
    return FarPeer.all.at(-1);
  }

  createDataChannel() {
    this.channel = { readyState: "connecting", send: (text) => this.sent.push(text) };
    return this.channel;
  }

  addTransceiver() {
    return { sender: { replaceTrack: async (track) => (this.track = track) } };
  }

  addEventListener() {}

  async setLocalDescription() {
    this.localDescription = { sdp: "the offer" };
  }

  async setRemoteDescription({ sdp }) {
    this.answer = sdp;
  }

  close() {
    this.closed = true;
  }

  open() {
    this.channel.readyState = "open";
    this.channel.onopen();
  }

  /** Sends a result as one part. */
  say(number, result) {
    const bytes = new TextEncoder().encode(JSON.stringify(result));
    const data = new Uint8Array(8 + bytes.length);
    const header = new DataView(data.buffer);
    header.setUint32(0, number);
    header.setUint16(6, 1);
    data.set(bytes, 8);
    this.channel.onmessage({ data: data.buffer });
  }
}
