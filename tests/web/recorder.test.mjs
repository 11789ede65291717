import assert from "node:assert/strict";
import { test } from "node:test";
import { bestKind, endingOf, recordingKind } from "../../clients/web/js/recorder.js";

test("a recording is what plays everywhere, where the browser can write it", () => {
  assert.match(bestKind(() => true), /^video\/mp4/);
  assert.equal(bestKind((kind) => kind.includes("webm")), "video/webm;codecs=vp9");
  assert.equal(bestKind((kind) => kind === "video/webm"), "video/webm");
});

test("a browser that records nothing is told from one that does", () => {
  assert.equal(bestKind(() => false), null);
  assert.equal(recordingKind(), null);
});

test("a file is named after what it is", () => {
  assert.equal(endingOf("video/mp4;codecs=avc1.42E01F"), "mp4");
  assert.equal(endingOf("video/webm;codecs=vp9"), "webm");
});
