import assert from "node:assert/strict";
import { test } from "node:test";
import { Upload } from "../../clients/web/js/upload.js";

const CHUNK = 10;

/** A file of numbered bytes that keeps count of what is read. */
function fileOf(size) {
  const bytes = Uint8Array.from({ length: size }, (_, at) => at % 251);
  return {
    size,
    bytes,
    reads: [],
    slice(start, end) {
      this.reads.push([start, end]);
      return { arrayBuffer: async () => bytes.slice(start, end).buffer };
    },
  };
}

function uploadOf(size, windowBytes) {
  const file = fileOf(size);
  const sent = [];
  const upload = new Upload(file, windowBytes, CHUNK, (header, payload) => sent.push({ header, payload }));
  return { file, sent, upload };
}

test("chunks are contiguous, the last one says so, and together they are the file", async () => {
  const { file, sent, upload } = uploadOf(35, 100);
  await upload.pump();
  assert.deepEqual(sent.map(({ header }) => header.offset), [0, 10, 20, 30]);
  assert.deepEqual(sent.map(({ header }) => header.last ?? false), [false, false, false, true]);
  assert.deepEqual(Buffer.concat(sent.map(({ payload }) => payload)), Buffer.from(file.bytes));
});

test("no more than the window is under way, whatever is acknowledged when", async () => {
  const { file, sent, upload } = uploadOf(95, 30);
  await upload.pump();
  assert.equal(sent.length, 3);
  for (const received of [5, 10, 10, 27, 30]) {
    await upload.received(received);
    assert.ok(upload.sentBytes - received <= 30, `${upload.sentBytes} sent, ${received} received`);
  }
  assert.equal(upload.sentBytes, 60);
  // What was not sent was not read either.
  assert.equal(file.reads.at(-1)[1], 60);
});

test("acknowledgements during a read neither repeat nor skip a chunk", async () => {
  const { sent, upload } = uploadOf(100, 20);
  const running = [upload.pump()];
  for (let received = 10; received <= 100; received += 10) {
    running.push(upload.received(received));
    await new Promise(setImmediate);
  }
  await Promise.all(running);
  assert.deepEqual(sent.map(({ header }) => header.offset), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
  assert.ok(upload.complete);
});

test("a window smaller than a chunk makes the chunks smaller", async () => {
  const { sent, upload } = uploadOf(9, 4);
  await upload.pump();
  assert.deepEqual(sent.map(({ payload }) => payload.length), [4]);
  await upload.received(4);
  await upload.received(8);
  assert.deepEqual(sent.map(({ payload }) => payload.length), [4, 4, 1]);
});

test("a file of exactly one chunk is one last chunk", async () => {
  const { sent, upload } = uploadOf(10, 20);
  await upload.pump();
  assert.deepEqual(sent.map(({ header }) => header), [{ type: "chunk", offset: 0, last: true }]);
});

test("after stop nothing is sent", async () => {
  const { sent, upload } = uploadOf(50, 20);
  const running = upload.pump();
  upload.stop();
  await running;
  await upload.received(10);
  assert.equal(sent.length, 0);
});

test("a file that cannot be read any more rejects", async () => {
  const file = { size: 5, slice: () => ({ arrayBuffer: () => Promise.reject(new Error("gone")) }) };
  await assert.rejects(new Upload(file, 10, 10, () => {}).pump(), /gone/);
});
