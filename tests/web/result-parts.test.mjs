import assert from "node:assert/strict";
import { test } from "node:test";
import { ResultParts, ahead } from "../../clients/web/js/result-parts.js";

const LAST = 2 ** 32 - 1;

/** A result as the server cuts it: messages with at most `room` bytes of its JSON. */
function cut(number, result, room = 5) {
  const bytes = new TextEncoder().encode(JSON.stringify(result));
  const parts = Math.ceil(bytes.length / room);
  return Array.from({ length: parts }, (_, part) => message(number, part, parts, bytes.slice(part * room, (part + 1) * room)));
}

function message(number, part, parts, bytes = new Uint8Array()) {
  const data = new Uint8Array(8 + bytes.length);
  const header = new DataView(data.buffer);
  header.setUint32(0, number);
  header.setUint16(4, part);
  header.setUint16(6, parts);
  data.set(bytes, 8);
  return data.buffer;
}

const takeAll = (parts, messages) => messages.map((one) => parts.take(one)).filter((result) => result !== null);

test("a result is whole when all its parts are there, in any order and with letters cut in two", () => {
  const result = { type: "result", words: "größer – ✂", index: 7 };
  for (const order of [(list) => list, (list) => list.reverse()]) {
    const parts = new ResultParts();
    const messages = order(cut(0, result));
    assert.deepEqual(takeAll(parts, messages.slice(0, -1)), []);
    assert.deepEqual(parts.take(messages.at(-1)), result);
    assert.equal(parts.lost, 0);
  }
});

test("parts of several results may come mixed up", () => {
  const parts = new ResultParts();
  const [a, b] = [cut(0, { index: 0, more: "…" }), cut(1, { index: 1, more: "…" })];
  const mixed = a.flatMap((one, at) => [one, b[at]]);
  assert.deepEqual(takeAll(parts, mixed).map(({ index }) => index), [0, 1]);
});

test("an incomplete result is thrown away as soon as a newer one is complete", () => {
  const parts = new ResultParts();
  const late = cut(3, { index: 3 });
  takeAll(parts, late.slice(1));
  assert.deepEqual(takeAll(parts, cut(4, { index: 4 })), [{ index: 4 }]);
  assert.equal(parts.incomplete.size, 0);
  assert.equal(parts.take(late[0]), null);
  assert.deepEqual(takeAll(parts, cut(2, { index: 2 })), [], "an older result says nothing new");
});

test("results that never come are counted", () => {
  const parts = new ResultParts();
  takeAll(parts, cut(2, {}));
  takeAll(parts, cut(5, {}));
  assert.equal(parts.lost, 4);
});

test("numbers go on after the largest one", () => {
  const parts = new ResultParts();
  for (const number of [LAST - 1, LAST, 0, 1]) assert.deepEqual(takeAll(parts, cut(number, { number })), [{ number }]);
  assert.deepEqual(takeAll(parts, cut(LAST, {})), []);
  assert.equal(ahead(1, LAST), 2);
  assert.equal(ahead(LAST, 1), -2);
});

test("a part that comes twice, or is none, changes nothing", () => {
  const parts = new ResultParts();
  const messages = cut(0, { index: 0 });
  takeAll(parts, [messages[0], messages[0], message(0, 9, 3), message(0, 0, 0), message(0, 0, 65), new ArrayBuffer(3)]);
  assert.deepEqual(takeAll(parts, messages.slice(1)), [{ index: 0 }]);
});

test("what stays incomplete does not pile up", () => {
  const parts = new ResultParts();
  for (let number = 0; number < 100; number++) parts.take(message(number, 0, 2));
  assert.ok(parts.incomplete.size <= 16);
  assert.ok(parts.incomplete.has(99));
});
