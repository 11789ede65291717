import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { FileJob } from "../../clients/web/js/job.js";
import { unpack } from "../../clients/web/js/protocol.js";

/** The other end of the wire, in the test's hands. */
class Wire {
  constructor() {
    this.sent = [];
    Wire.newest = this;
  }

  send(data) {
    this.sent.push(data);
  }

  close() {
    this.closed = true;
  }

  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }

  get texts() {
    return this.sent.filter((data) => typeof data === "string").map((data) => JSON.parse(data));
  }

  get chunks() {
    return this.sent.filter((data) => typeof data !== "string").map((data) => unpack(data.buffer));
  }
}

const READY = { type: "ready", window_bytes: 8, chunk_bytes: 4 };
const FILES = [{ name: "overlay.mp4", url: "/v1/files/1/overlay.mp4", bytes: 3, media_type: "video/mp4" }];
const settle = () => new Promise((resolve) => setTimeout(resolve, 10));

let log;
let answer;

beforeEach(() => {
  globalThis.WebSocket = Wire;
  log = [];
  answer = "ok";
});

function begin(size = 10) {
  const file = new File([new Uint8Array(size)], "clip.mp4");
  const note = (name) => (said) => log.push([name, said]);
  const job = new FileJob(
    { url: "ws://here/v1/stream", token: () => null, probe: async () => answer },
    file,
    { masks: "rle", prompts: [{ object_id: 1 }] },
    {
      onUpload: note("upload"),
      onProgress: note("progress"),
      onResult: note("result"),
      onProblem: note("problem"),
      onDone: note("done"),
      onFailed: note("failed"),
      onState: () => {},
    },
  );
  Wire.newest.onopen?.();
  return { job, wire: Wire.newest };
}

async function upload(wire, size = 10) {
  wire.say(READY);
  await settle();
  for (let bytes = 4; bytes < size; bytes += 4) {
    wire.say({ type: "received", bytes });
    await settle();
  }
  wire.say({ type: "received", bytes: size });
}

test("the file is announced with its size and sent within the window", async () => {
  const { wire } = begin();
  const [start] = wire.texts;
  assert.equal(start.source, "file");
  assert.equal(start.name, "clip.mp4");
  assert.equal(start.size_bytes, 10);
  wire.say(READY);
  await settle();
  assert.equal(wire.chunks.length, 2);
  wire.say({ type: "received", bytes: 4 });
  await settle();
  assert.deepEqual(wire.chunks.map(({ header }) => header.offset), [0, 4, 8]);
  assert.equal(wire.chunks.at(-1).header.last, true);
});

test("results, progress and files are handed on, and the connection is closed at the end", async () => {
  const { job, wire } = begin();
  await upload(wire);
  assert.equal(job.phase, "processing");
  wire.say({ type: "result", index: 0, objects: [] });
  wire.say({ type: "progress", frames: 1, total: 2 });
  wire.say({ type: "done", frames: 2, files: FILES });
  assert.deepEqual(log.slice(-3).map(([name]) => name), ["result", "progress", "done"]);
  assert.ok(wire.closed);
});

test("stopping while it is processed asks the server for what is done", async () => {
  const { job, wire } = begin();
  await upload(wire);
  job.stop();
  assert.equal(wire.texts.at(-1).type, "stop");
  wire.say({ type: "done", frames: 1, files: FILES });
  assert.equal(log.at(-1)[0], "done");
});

test("stopping the upload just ends it", async () => {
  const { job, wire } = begin();
  wire.say(READY);
  job.stop();
  await settle();
  assert.ok(wire.closed);
  assert.equal(wire.chunks.length, 0);
  assert.deepEqual(log, []);
});

test("an error before the session is the end", () => {
  const { wire } = begin();
  wire.say({ type: "error", code: "too_large", message: "the file has 9 bytes; this server takes 4" });
  assert.match(log.at(-1)[1], /too large: the file has 9 bytes/);
  assert.ok(wire.closed);
});

test("an error without any file is the end, with the server's reason", async () => {
  const { wire } = begin();
  await upload(wire);
  wire.say({ type: "error", code: "unsupported_media", message: "nothing in it can be decoded" });
  wire.say({ type: "done", frames: 0 });
  assert.deepEqual(log.at(-1), ["failed", "This file cannot be used: nothing in it can be decoded."]);
});

test("an error with files is told, and the files are kept", async () => {
  const { wire } = begin();
  await upload(wire);
  wire.say({ type: "error", code: "internal", message: "the disk is full" });
  wire.say({ type: "done", frames: 4, files: FILES });
  assert.deepEqual(log.slice(-2).map(([name]) => name), ["problem", "done"]);
});

test("a connection that breaks is not tried again", async () => {
  const { wire } = begin();
  await upload(wire);
  await wire.onclose({ code: 1006 });
  assert.equal(log.at(-1)[0], "failed");
  assert.match(log.at(-1)[1], /Connection lost/);
  await settle();
  assert.equal(Wire.newest, wire);
});

test("a server that is full or away is said so", async () => {
  for (const [said, words] of [["ok", /busy/], ["unreachable", /does not answer/], ["token", /token/]]) {
    answer = said;
    const file = new File([new Uint8Array(3)], "a.mp4");
    const failed = new Promise((resolve) => {
      const ignore = () => {};
      new FileJob({ url: "ws://here/", token: () => null, probe: async () => answer }, file, {}, {
        onUpload: ignore, onProgress: ignore, onResult: ignore, onProblem: ignore, onDone: ignore, onState: ignore,
        onFailed: resolve,
      });
    });
    await Wire.newest.onclose({ code: 1006 });
    assert.match(await failed, words);
  }
});
