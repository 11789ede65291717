import assert from "node:assert/strict";
import { test } from "node:test";
import { shortened } from "../../clients/web/js/stage-marks.js";

const measure = (text) => 10 * text.length;

test("a name that fits its tag stays as it is, a longer one ends in an ellipsis", () => {
  assert.equal(shortened("Red cup", 70, measure), "Red cup");
  assert.equal(shortened("Red cups", 70, measure), "Red cu…");
  assert.equal(shortened("Red cup there", 50, measure), "Red…");
});

test("no letter is cut in two", () => {
  assert.equal(shortened("\u{1f469}\u200d\u{1f680}\u{1f469}\u200d\u{1f680}", 90, measure), "\u{1f469}\u200d\u{1f680}…");
});
