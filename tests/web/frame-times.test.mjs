import assert from "node:assert/strict";
import test from "node:test";

import { evenBegin, evenDistance, isSought, learnDistance } from "../../clients/web/js/frame-times.js";

const micro = (/** @type {number} */ timeS) => Math.round(timeS * 1e6) / 1e6;
const milli = (/** @type {number} */ timeS) => Math.round(timeS * 1e3) / 1e3;
const frames = (/** @type {number[]} */ numbers, /** @type {number} */ distanceS, round = micro) =>
  numbers.map((number) => round(number * distanceS));

test("the distance of frames is that of a camera's rate, however the browser rounds", () => {
  for (const rate of [12, 24, 25, 30, 60, 120]) assert.equal(evenDistance(frames([1, 2, 3, 4, 5], 1 / rate)), 1 / rate);
  for (const rate of [12, 24, 25, 30]) assert.equal(evenDistance(frames([1, 2, 3, 4, 5], 1 / rate, milli)), 1 / rate);
  for (const rate of [24, 30, 60]) assert.equal(evenDistance(frames([1, 2, 3, 4, 5, 6], 1.001 / rate)), 1.001 / rate);
});

test("frames that were left out do not matter, as long as two followed each other", () => {
  assert.equal(evenDistance(frames([1, 4, 5, 9, 11], 1 / 25)), 1 / 25);
});

test("an unusual distance stays what was measured", () => {
  const distanceS = /** @type {number} */ (evenDistance(frames([1, 2, 3, 4, 5, 6, 7], 0.4321)));
  assert.ok(Math.abs(distanceS - 0.4321) < 1e-6);
});

test("one frame has no distance", () => {
  assert.equal(evenDistance([]), null);
  assert.equal(evenDistance([0.2]), null);
  assert.equal(evenDistance([0.2, 0.2]), null);
});

test("a beginning that was rounded is the even one, another one stays", () => {
  assert.equal(evenBegin(0.083333, 1 / 12), 1 / 12);
  assert.equal(evenBegin(0.083, 1 / 12), 1 / 12);
  assert.equal(evenBegin(0.06, 1 / 12), 0.06);
  assert.equal(evenBegin(0, 1 / 12), 0);
});

test("a moment that was sought is told from a frame's beginning", () => {
  assert.ok(isSought(0.084333, 1 / 12 + 0.001));
  assert.ok(!isSought(1 / 12, 1 / 12 + 0.001));
});

test("a browser without frame callbacks learns nothing", async () => {
  assert.equal(await learnDistance(/** @type {any} */ ({}), 0, async () => true), null);
});
