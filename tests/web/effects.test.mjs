import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { stepSizes } from "../../clients/web/js/blur.js";
import { EFFECTS, PLAIN_OVERLAY, anySeen, covers, hidesBackground, isEffect, needsPicture } from "../../clients/web/js/effects.js";

const names = (holds) => EFFECTS.filter((effect) => holds({ ...PLAIN_OVERLAY, ...effect })).map(({ name }) => name);

test("effects differ in what they hide and in what they have to be drawn again for", () => {
  assert.deepEqual(names(hidesBackground), ["cutout", "spotlight", "blur", "grey", "color", "picture"]);
  assert.deepEqual(names(covers), ["cutout", "color", "picture"]);
  assert.deepEqual(names(needsPicture), ["blur", "grey"]);
});

test("every effect has its own words and its own sign", () => {
  assert.equal(new Set(EFFECTS.map(({ words }) => words)).size, EFFECTS.length);
  const icons = readFileSync(new URL("../../clients/web/icons.svg", import.meta.url), "utf-8");
  for (const { name } of EFFECTS) assert.ok(icons.includes(`id="effect-${name}"`), name);
});

test("what was remembered by another version is no effect", () => {
  assert.ok(isEffect("blur"));
  assert.ok(!isEffect("sepia"));
  assert.ok(!isEffect("toString"));
});

test("a background is hidden once an object was found, and stays so when it is lost", () => {
  assert.ok(!anySeen([]));
  assert.ok(!anySeen([{ state: "waiting" }]));
  assert.ok(anySeen([{ state: "waiting" }, { state: "tracked" }]));
  assert.ok(anySeen([{ state: "lost" }]));
});

test("the blur halves its steps, keeps the picture's shape, and never vanishes", () => {
  assert.deepEqual(stepSizes(1280, 720).map(({ width, height }) => [width, height]), [[384, 216], [192, 108], [96, 54], [48, 27]]);
  assert.deepEqual(stepSizes(4, 1).at(-1), { width: 1, height: 1 });
});
