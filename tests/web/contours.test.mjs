import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { contours } from "../../clients/web/js/contours.js";
import { decode } from "../../clients/web/js/rle.js";

const cases = JSON.parse(readFileSync(process.env.STREAMSEG_CASES, "utf-8"));

/** A bitmap from rows of . and #. */
function bitmap(...rows) {
  return { width: rows[0].length, height: rows.length, data: Uint8Array.from(rows.join(""), (sign) => Number(sign === "#")) };
}

/** Whether a point is inside by the even-odd rule. */
function inside(polygons, x, y) {
  let odd = false;
  for (const polygon of polygons) {
    for (let at = 0; at < polygon.length; at += 2) {
      const next = (at + 2) % polygon.length;
      const [x1, y1, x2, y2] = [polygon[at], polygon[at + 1], polygon[next], polygon[next + 1]];
      if (y1 > y !== y2 > y && x < x1 + ((y - y1) / (y2 - y1)) * (x2 - x1)) odd = !odd;
    }
  }
  return odd;
}

describe("the polygons hold the middle of exactly the pixels of the mask", () => {
  const shapes = {
    "one pixel": bitmap("#"),
    bar: bitmap("....", ".##.", "...."),
    "pixels that touch by a corner": bitmap("#..", ".#.", "..#"),
    "a ring that touches itself by a corner": bitmap("###.", "#.#.", "##.#", ".###"),
    "ring with an island": bitmap("#####", "#...#", "#.#.#", "#...#", "#####"),
    "touching every edge": bitmap("#.#", ".#.", "#.#"),
    ...Object.fromEntries(
      Object.entries(cases).filter(([name]) => name !== "long runs").map(([name, rle]) => [name, decode(rle)]),
    ),
  };
  for (const [name, shape] of Object.entries(shapes)) {
    test(name, () => {
      const polygons = contours(shape);
      for (let y = 0; y < shape.height; y++) {
        for (let x = 0; x < shape.width; x++) {
          // Slightly off the middle: a diagonal may pass exactly through it.
          const found = inside(polygons, x + 0.5 + 1e-6, y + 0.5 + 2e-6);
          assert.equal(found, shape.data[y * shape.width + x] === 1, `pixel ${x}, ${y}`);
        }
      }
    });
  }
});

test("a ring has an outer and an inner polygon", () => {
  assert.equal(contours(bitmap("###", "#.#", "###")).length, 2);
});

test("a straight edge costs two points, whatever its length", () => {
  const wide = { width: 500, height: 400, data: new Uint8Array(500 * 400).fill(1) };
  assert.equal(contours(wide)[0].length / 2, 8 + 1);
});

test("an empty mask has none", () => {
  assert.deepEqual(contours(bitmap("..", "..")), []);
});
