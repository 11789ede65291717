import assert from "node:assert/strict";
import { test } from "node:test";
import { Rate, Stats, median, quantile } from "../../clients/web/js/stats.js";

test("the median of nothing is nothing", () => {
  assert.equal(median([]), null);
  assert.equal(median([3]), 3);
  assert.equal(median([5, 1, 3]), 3);
  assert.equal(median([4, 1, 3, 2]), 2.5);
});

test("ten results a second are ten per second", () => {
  const stats = new Stats();
  for (let time = 0; time <= 3000; time += 100) stats.add(time, time - 80, 2);
  assert.ok(Math.abs(stats.fps(3000) - 10) < 0.01);
  assert.equal(stats.delayMs(), 80);
  assert.equal(stats.dropped, 2);
});

test("a stream that stands still has no rate", () => {
  const stats = new Stats();
  stats.add(0, 0, 0);
  stats.add(100, 0, 0);
  assert.equal(stats.fps(5000), null);
});

test("slow ones are told by the quantile, in between where it falls between two", () => {
  const values = Array.from({ length: 101 }, (_, at) => 100 - at);
  assert.equal(quantile(values, 0.95), 95);
  assert.equal(quantile([0, 10], 0.95), 9.5);
  assert.equal(quantile([], 0.5), null);
});

test("stages are medians in the order of the server, and the rest of the delay is the way", () => {
  const stats = new Stats();
  assert.deepEqual(stats.stages(), []);
  for (const segment of [50, 60, 500]) stats.add(1000, 900, 0, { decode: 2, segment });
  assert.deepEqual(stats.stages(), [
    { stage: "decode", ms: 2 },
    { stage: "segment", ms: 60 },
    { stage: "way", ms: 38 },
  ]);
});

test("a rate that nobody asks for does not grow for ever", () => {
  const rate = new Rate();
  for (let time = 0; time < 100_000; time += 10) rate.note(time);
  assert.ok(rate.times.length <= 1000);
  assert.ok(Math.abs(rate.perSecond(99_990) - 100) < 1);
});

test("where nobody knows when a frame was taken, its delay is what the server spent on it", () => {
  const stats = new Stats();
  stats.add(500, null, 0, { segment: 30, encode: 2 });
  assert.equal(stats.delayMs(), 32);
  assert.deepEqual(stats.stages().map(({ stage }) => stage), ["segment", "encode"]);
  assert.ok(!stats.timed);
});
