import assert from "node:assert/strict";
import { test } from "node:test";
import { Stats, median } from "../../clients/web/js/stats.js";

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
