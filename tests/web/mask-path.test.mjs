import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { contours } from "../../clients/web/js/contours.js";
import { shownMasks, trace } from "../../clients/web/js/mask-path.js";
import { decode } from "../../clients/web/js/rle.js";

const cases = JSON.parse(readFileSync(process.env.STREAMSEG_CASES, "utf-8"));

/** Walks a path in small steps, as a canvas would. */
class Walker {
  points = [];

  moveTo(x, y) {
    this.at = this.first = [x, y];
  }

  quadraticCurveTo(byX, byY, x, y) {
    const [fromX, fromY] = this.at;
    for (let t = 0.125; t <= 1; t += 0.125) {
      const [a, b, c] = [(1 - t) ** 2, 2 * t * (1 - t), t ** 2];
      this.points.push([a * fromX + b * byX + c * x, a * fromY + b * byY + c * y]);
    }
    this.at = [x, y];
  }

  closePath() {
    assert.deepEqual(this.at, this.first, "the curve ends where it began");
  }
}

function walked(polygons) {
  return polygons.map((polygon) => {
    const walker = new Walker();
    trace(walker, polygon);
    return walker.points;
  });
}

const area = (points) =>
  points.reduce((sum, [x, y], at) => {
    const [nextX, nextY] = points[(at + 1) % points.length];
    return sum + (x * nextY - nextX * y) / 2;
  }, 0);

test("the curve around a disc encloses its area and keeps to its edge", () => {
  const bitmap = decode(cases.disc);
  const pixels = bitmap.data.reduce((sum, value) => sum + value, 0);
  const [curve, ...others] = walked(contours(bitmap));
  assert.equal(others.length, 0);
  assert.ok(Math.abs(Math.abs(area(curve)) / pixels - 1) < 0.01);
  // The middle of a pixel, in edges of pixels.
  const distances = curve.map(([x, y]) => Math.hypot(x - 60.5, y - 40.5));
  assert.ok(Math.max(...distances) - Math.min(...distances) < 1.5, "no staircase is left");
});

test("long straight sides stay straight, and holes are kept", () => {
  const curves = walked(contours(decode(cases.hole)));
  assert.equal(curves.length, 2);
  const [outer] = curves;
  const left = outer.filter(([, y]) => y > 8 && y < 22).map(([x]) => x).filter((x) => x < 25);
  assert.ok(left.length > 0);
  assert.ok(left.every((x) => Math.abs(x - 10) < 0.25));
});

test("what is hidden or has no mask is not drawn", () => {
  const bitmap = decode(cases.disc);
  const objects = [{ id: 1, hidden: false, bitmap }, { id: 2, hidden: true, bitmap }, { id: 3, hidden: false, bitmap: null }];
  assert.deepEqual(shownMasks(objects).map(({ id }) => id), [1]);
});
