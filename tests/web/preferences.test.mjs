import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { remember, rememberWord, remembered, rememberedWord } from "../../clients/web/js/preferences.js";

function storage() {
  const kept = new Map();
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, String(value)) };
}

afterEach(() => delete globalThis.localStorage);

test("a choice is remembered, and each has its own name", () => {
  globalThis.localStorage = storage();
  assert.equal(remembered("follow.live", true), true);
  remember("follow.live", false);
  assert.equal(remembered("follow.live", true), false);
  assert.equal(remembered("follow.video", true), true);
  remember("follow.live", true);
  assert.equal(remembered("follow.live", false), true);
});

test("a word is remembered as it is", () => {
  globalThis.localStorage = storage();
  assert.equal(rememberedWord("effect.live", "overlay"), "overlay");
  rememberWord("effect.live", "blur");
  assert.equal(rememberedWord("effect.live", "overlay"), "blur");
});

test("a browser that may not remember does not stop the page", () => {
  const refuse = () => {
    throw new DOMException("no", "SecurityError");
  };
  globalThis.localStorage = { getItem: refuse, setItem: refuse };
  remember("follow.live", false);
  assert.equal(remembered("follow.live", true), true);
});
