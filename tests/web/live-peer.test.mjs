import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import { Frames } from "../../clients/web/js/frames.js";
import { LiveSession } from "../../clients/web/js/live-session.js";
import { Objects } from "../../clients/web/js/objects.js";
import { sharp } from "../../clients/web/js/peer.js";
import { wantsPeer } from "../../clients/web/js/transport-choice.js";
import { Canvas, FarPeer, Wire } from "./far_end.mjs";

const { disc } = JSON.parse(readFileSync(process.env.STREAMSEG_CASES, "utf-8"));
const [HEIGHT, WIDTH] = disc.size;
const RTP = 4_000_000_000;

const settle = () => new Promise((resolve) => setTimeout(resolve, 5));

let seen;
let objects;
let frames;
let session;

beforeEach(() => {
  Wire.all = [];
  FarPeer.all = [];
  globalThis.WebSocket = Wire;
  globalThis.RTCPeerConnection = FarPeer;
  globalThis.document = { createElement: () => new Canvas() };
  seen = [];
  objects = new Objects(() => {});
  frames = new Frames((index, timestampMs, jpeg) => session.send(index, timestampMs, jpeg));
  frames.setSize(WIDTH, HEIGHT);
  const server = { url: "ws://here/v1/stream", token: () => null, probe: async () => "ok" };
  session = new LiveSession(server, objects, frames, {
    mode: () => "track",
    wantsPeer: () => true,
    picture: () => "clicked",
    onReady: () => {},
    onResult: (result, picture) => seen.push([result.index, picture.drawn]),
    onShape: () => {},
    onFailed: (error) => seen.push(error.code),
    onState: () => {},
  });
  session.open();
});

afterEach(() => {
  session.close();
  delete globalThis.RTCPeerConnection;
});

/** A session with an object that was clicked, whose picture was answered. */
async function followed() {
  Wire.newest.open();
  await settle();
  const object = objects.add();
  const mark = { kind: "point", x: 0.5, y: 0.5, label: 1 };
  objects.mark(object, mark);
  session.marked(object, mark, null);
  await settle();
  Wire.newest.say(result(0, { request_id: "frame-0", timestamp_ms: 1 }));
}

async function connected() {
  await followed();
  Wire.newest.say({ type: "answer", sdp: "the answer", request_id: requestOf("offer").request_id });
  FarPeer.newest.open();
}

function result(index, more) {
  const found = [{ object_id: 1, state: "tracked", score: 0.9, area_px: 3400, box_xyxy_px: null, rle: disc }];
  return { type: "result", index, width: WIDTH, height: HEIGHT, dropped: 0, attachments: 0, objects: found, ...more };
}

/** A picture goes over WebRTC, under that timestamp. */
function film(picture, rtp) {
  session.take(picture);
  session.peer.clock.sent(rtp, performance.now());
}

const requestOf = (kind) => Wire.newest.sent.findLast(({ type }) => type === kind);

const framesOverWire = () => Wire.newest.sent.filter(({ type }) => type === "frame").length;

test("an offer follows the start, and its answer is taken", async () => {
  await connected();
  const [start] = Wire.newest.sent;
  assert.deepEqual([start.source, start.masks, start.size_px], ["webrtc", "rle", [WIDTH, HEIGHT]]);
  assert.equal(Wire.newest.sent.find(({ type }) => type === "offer").sdp, "the offer");
  assert.equal(FarPeer.newest.answer, "the answer\r\n");
});

test("frames go over the websocket until the connection is there", async () => {
  await followed();
  assert.deepEqual(seen, [[0, "clicked"]]);
  session.take("before");
  await settle();
  assert.equal(framesOverWire(), 2);
  // The server counts frames of both ways.
  Wire.newest.say(result(7, { request_id: "frame-1" }));
  assert.deepEqual(seen.at(-1), [7, "before"]);
  FarPeer.newest.open();
  session.take("after");
  await settle();
  assert.equal(framesOverWire(), 2);
  assert.ok(FarPeer.newest.track);
});

test("a result of the channel is drawn over the picture that its timestamp names", async () => {
  await connected();
  film("a", RTP);
  await settle();
  film("b", RTP + 900);
  FarPeer.newest.say(0, result(1, { rtp_timestamp: RTP }));
  FarPeer.newest.say(1, result(2, { rtp_timestamp: RTP + 900 }));
  assert.deepEqual(seen.slice(1), [[1, "a"], [2, "b"]]);
  assert.equal(frames.filming, 0);
  assert.equal(session.estimated, false);
});

test("a result for which the channel was too small comes over the websocket", async () => {
  await connected();
  film("a", RTP);
  Wire.newest.say(result(1, { rtp_timestamp: RTP }));
  assert.deepEqual(seen.at(-1), [1, "a"]);
});

test("the first frame goes alone, then two at a time; one that is never answered holds up nothing older", async () => {
  await connected();
  session.take("a");
  assert.ok(!session.hasRoom);
  session.peer.clock.sent(RTP, performance.now());
  assert.ok(session.hasRoom);
  await settle();
  film("b", RTP + 900);
  assert.ok(!session.hasRoom);
  FarPeer.newest.say(0, result(2, { rtp_timestamp: RTP + 900 }));
  assert.equal(frames.filming, 0);
  assert.ok(session.hasRoom);
});

test("a picture that is clicked on goes before any other, unless one of those took its place", async () => {
  await connected();
  film("a", RTP);
  await settle();
  session.show();
  await settle();
  assert.equal(framesOverWire(), 2);
  assert.ok(!session.hasRoom);
  film("b", RTP + 900);
  FarPeer.newest.say(0, result(2, { rtp_timestamp: RTP + 900 }));
  assert.ok(session.hasRoom);
});

test("a connection that is lost leaves the session to the websocket and is made anew only after a while", async () => {
  await connected();
  film("a", RTP);
  Wire.newest.say({ type: "error", code: "webrtc_failed", message: "lost" });
  assert.equal(session.fellBack, "lost");
  assert.ok(FarPeer.newest.closed);
  assert.ok(session.hasRoom);
  session.take("b");
  await settle();
  Wire.newest.say(result(2, { request_id: "frame-1" }));
  assert.deepEqual(seen.slice(1), [[2, "b"]]);
  assert.equal(FarPeer.all.length, 1);
  assert.equal(Wire.all.length, 1);
});

test("a connection that was there for long is made anew at once", async () => {
  await connected();
  session.calledMs -= 60_000;
  FarPeer.newest.connectionState = "failed";
  FarPeer.newest.onconnectionstatechange();
  await settle();
  assert.equal(FarPeer.all.length, 2);
  assert.equal(Wire.newest.sent.filter(({ type }) => type === "offer").length, 2);
  Wire.newest.say({ type: "error", code: "webrtc_failed", message: "the former one was closed" });
  FarPeer.newest.open();
  assert.ok(session.filming);
  assert.deepEqual([session.fellBack, seen.length], [null, 1]);
});

test("an offer that is refused leaves the session to the websocket, and the next one that comes by itself", async () => {
  await followed();
  const { request_id } = Wire.newest.sent.find(({ type }) => type === "offer");
  Wire.newest.say({ type: "error", code: "bad_message", message: "no", request_id });
  assert.equal(session.fellBack, "failed");
  assert.equal(session.start().source, "frames");
  session.openAnew();
  assert.equal(session.start().source, "webrtc", "who asks for it again gets another try");
});

test("a server that takes no WebRTC is asked for frames, without a word", async () => {
  Wire.newest.onopen();
  Wire.newest.say({ type: "error", code: "webrtc_failed", message: "off" });
  assert.equal(Wire.all.length, 2);
  Wire.newest.open();
  assert.equal(Wire.newest.sent[0].source, "frames");
  assert.deepEqual([session.fellBack, seen], ["failed", []]);
});

test("a browser without WebRTC starts with frames", () => {
  delete globalThis.RTCPeerConnection;
  Wire.newest.open();
  assert.deepEqual([Wire.newest.sent[0].source, session.fellBack], ["frames", "unsupported"]);
});

test("a connection over which nothing comes is given up", async () => {
  await connected();
  film("a", RTP);
  session.unansweredMs -= 60_000;
  session.take("b");
  assert.equal(session.fellBack, "lost");
  assert.ok(session.hasRoom);
});

/** Over another websocket the session goes on. */
async function comeBack() {
  clearTimeout(session.connection.retryTimer);
  session.connection.open();
  Wire.newest.resume();
  await settle();
}

test("masks keep coming over WebRTC while the websocket is away, and it is kept", async () => {
  await connected();
  film("a", RTP);
  await Wire.newest.lose();
  FarPeer.newest.say(0, result(1, { rtp_timestamp: RTP }));
  assert.deepEqual(seen.at(-1), [1, "a"]);
  assert.ok(session.hasRoom);
  film("b", RTP + 900);
  await comeBack();
  FarPeer.newest.say(1, result(2, { rtp_timestamp: RTP + 900 }));
  assert.deepEqual(seen.at(-1), [2, "b"]);
  assert.equal(FarPeer.all.length, 1);
  assert.equal(Wire.newest.sent.filter(({ type }) => type === "offer").length, 0);
});

test("a connection that ended with the websocket is made anew after it", async () => {
  await connected();
  await Wire.newest.lose();
  FarPeer.newest.connectionState = "failed";
  FarPeer.newest.onconnectionstatechange();
  assert.ok(!session.goesOn);
  await comeBack();
  assert.equal(FarPeer.all.length, 2);
  assert.equal(Wire.newest.sent.filter(({ type }) => type === "offer").length, 1);
  Wire.newest.say({ type: "answer", sdp: "of the former offer", request_id: "r1" });
  assert.equal(FarPeer.newest.answer, undefined);
  Wire.newest.say({ type: "answer", sdp: "of this one", request_id: requestOf("offer").request_id });
  FarPeer.newest.open();
  assert.ok(session.filming);
});

test("by itself the page takes WebRTC over a network, and the websocket on one machine", () => {
  for (const host of ["localhost", "127.0.0.1", "[::1]", "app.localhost"]) assert.ok(!wantsPeer("automatic", host), host);
  for (const host of ["192.168.1.7", "example.org", "127.example.org"]) assert.ok(wantsPeer("automatic", host), host);
  assert.ok(wantsPeer("webrtc", "localhost"));
  assert.ok(!wantsPeer("websocket", "example.org"));
});

test("the video starts sharp, and no estimate made on a busy server makes it poor", () => {
  const answer = [
    "v=0",
    "a=rtpmap:96 VP8/90000",
    "a=rtcp-fb:96 nack",
    "a=rtcp-fb:96 goog-remb",
    "a=rtpmap:97 rtx/90000",
    "a=fmtp:97 apt=96",
    "a=rtpmap:102 H264/90000",
    "a=fmtp:102 packetization-mode=1",
    "",
  ];
  assert.deepEqual(sharp(answer.join("\r\n")).split("\r\n"), [
    "v=0",
    "a=rtpmap:96 VP8/90000",
    "a=fmtp:96 x-google-start-bitrate=2000",
    "a=rtcp-fb:96 nack",
    "a=rtpmap:97 rtx/90000",
    "a=fmtp:97 apt=96",
    "a=rtpmap:102 H264/90000",
    "a=fmtp:102 packetization-mode=1;x-google-start-bitrate=2000",
    "",
  ]);
});
