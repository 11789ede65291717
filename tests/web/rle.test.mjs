import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { contains, decode, runLengths } from "../../clients/web/js/rle.js";

const cases = JSON.parse(readFileSync(process.env.STREAMSEG_CASES, "utf-8"));

/** What pycocotools was given, row by row. */
function pixels({ rows }) {
  return new Uint8Array(Buffer.from(rows, "base64"));
}

describe("masks that pycocotools wrote", () => {
  for (const [name, rle] of Object.entries(cases)) {
    test(`${name}: every pixel comes back`, () => {
      const { width, height, data } = decode(rle);
      assert.deepEqual([height, width], rle.size);
      assert.deepEqual(data, pixels(rle));
    });

    test(`${name}: reduced, each pixel is the nearest one of the mask`, () => {
      const [height, width] = rle.size;
      const side = Math.ceil(Math.max(width, height) / 3);
      const small = decode(rle, side);
      const full = pixels(rle);
      assert.ok(Math.max(small.width, small.height) <= side);
      for (let y = 0; y < small.height; y++) {
        for (let x = 0; x < small.width; x++) {
          const sourceX = Math.floor(((x + 0.5) * width) / small.width);
          const sourceY = Math.floor(((y + 0.5) * height) / small.height);
          assert.equal(small.data[y * small.width + x], full[sourceY * width + sourceX]);
        }
      }
    });

    test(`${name}: the runs cover the mask exactly`, () => {
      const total = runLengths(rle.counts).reduce((sum, run) => sum + run, 0);
      assert.equal(total, rle.size[0] * rle.size[1]);
    });
  }
});

test("text that is no RLE is refused", () => {
  assert.throws(() => runLengths("\u0001"), /not COCO RLE/);
  assert.throws(() => runLengths("o"), /not COCO RLE/);
});

test("an RLE that does not fit its size is refused", () => {
  assert.throws(() => decode({ size: [2, 2], counts: cases.disc.counts }), /does not fit/);
  assert.throws(() => decode({ size: [999, 999], counts: cases.disc.counts }), /does not fit/);
});

test("a point is looked up in shares of the mask's size", () => {
  const disc = decode(cases.disc);
  assert.equal(contains(disc, 0.5, 0.5), true);
  assert.equal(contains(disc, 0.01, 0.01), false);
});

test("a mask of 48 million pixels is reduced without unpacking it", () => {
  const [height, width] = [6000, 8000];
  const half = (height * width) / 2;
  const encode = (value) => {
    let text = "";
    for (let more = true; more; ) {
      let code = value & 0x1f;
      value >>= 5;
      more = code & 0x10 ? value !== -1 : value !== 0;
      if (more) code |= 0x20;
      text += String.fromCharCode(code + 48);
    }
    return text;
  };
  const { width: w, height: h, data } = decode({ size: [height, width], counts: encode(half) + encode(half) }, 800);
  assert.deepEqual([w, h], [800, 600]);
  assert.equal(data.reduce((sum, bit) => sum + bit, 0), (800 * 600) / 2);
});
