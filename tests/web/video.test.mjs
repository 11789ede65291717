import assert from "node:assert/strict";
import { test } from "node:test";
import { looksLikeVideo, sniff } from "../../clients/web/js/containers.js";
import { videoTooLarge, videoTooLong } from "../../clients/web/js/messages.js";
import { Objects } from "../../clients/web/js/objects.js";
import { clock, duration } from "../../clients/web/js/times.js";
import { filePrompts, flags, marksAt, outside } from "../../clients/web/js/video-prompts.js";

/** Object 1 has two clicks on one frame and a box on a later one, object 2 a click between. */
function clicked() {
  const objects = new Objects(() => {});
  objects.add().marks.push(
    { kind: "box", x1: 0.1, y1: 0.2, x2: 0.3, y2: 0.4, timeS: 2 },
    { kind: "point", x: 0.5, y: 0.5, label: 1, timeS: 0.5 },
    { kind: "point", x: 0.25, y: 0.5, label: 0, timeS: 0.5 },
  );
  objects.add().marks.push({ kind: "point", x: 0, y: 1, label: 1, timeS: 1 });
  return objects.all();
}

test("every object and frame is one prompt, at a moment within its frame, in the order of time", () => {
  const prompts = filePrompts(clicked(), 200, 100);
  assert.deepEqual(prompts.map(({ object_id, time_s }) => [object_id, time_s]), [[1, 0.501], [2, 1.001], [1, 2.001]]);
  assert.deepEqual(prompts[0].points_xy_px, [[100, 50], [50, 50]]);
  assert.deepEqual(prompts[0].labels, [1, 0]);
  assert.deepEqual(prompts[1].points_xy_px, [[0, 99.9]]);
  assert.deepEqual(prompts[2].box_xyxy_px, [20, 20, 60, 40]);
});

test("marks belong to their frame", () => {
  assert.deepEqual(marksAt(clicked(), 0.5).map(({ id, marks }) => [id, marks.length]), [[1, 2]]);
  assert.deepEqual(marksAt(clicked(), 0.6), []);
  assert.deepEqual(flags(clicked()).map(({ timeS }) => timeS), [0.5, 1, 2]);
});

test("a click outside the chosen part is named", () => {
  assert.equal(outside(clicked(), null, null), null);
  assert.equal(outside(clicked(), 0.5, 2), null);
  assert.match(outside(clicked(), 0.7, null), /Object 1 was clicked at 0:00\.50, outside the part from 0:00\.70 to the end/);
  assert.match(outside(clicked(), null, 0.7), /Object 2 .* from 0:00\.00 to 0:00\.70/);
});

test("showing another frame forgets the masks, not the clicks", () => {
  const objects = new Objects(() => {});
  const object = objects.add();
  object.marks.push({ kind: "point", x: 0, y: 0, label: 1, timeS: 0 });
  const found = { object_id: 1, state: "tracked", score: 0.9, area_px: 6, box_xyxy_px: [0, 0, 2, 3], rle: { size: [3, 2], counts: "06" } };
  objects.show({ width: 2, height: 3, objects: [found] });
  assert.equal(object.areaShare, 1);
  objects.show(null);
  assert.equal(object.bitmap, null);
  assert.equal(object.areaPx, 0);
  assert.equal(object.marks.length, 1);
});

test("moments and durations read as a person says them", () => {
  assert.deepEqual([0, 3.2, 59.999, 61.5, 3723.04].map((s) => clock(s)), ["0:00.00", "0:03.20", "1:00.00", "1:01.50", "1:02:03.04"]);
  assert.equal(clock(75.6, 0), "1:16");
  assert.deepEqual([0.2, 12.4, 70, 150, 3600, 5400].map(duration), [
    "1 second", "12 seconds", "1 minute", "3 minutes", "1 h", "1 h 30 min",
  ]);
});

test("limits are named in the words of their size", () => {
  assert.match(videoTooLarge(3.5 * 2 ** 30, 2 ** 31), /3\.5 GB.*2 GB/);
  assert.match(videoTooLong(5400, 3600), /1 h 30 min.*1 h/);
});

const bytes = (...parts) => Uint8Array.from(parts.flatMap((part) => (typeof part === "string" ? [...Buffer.from(part, "latin1")] : part)));
const packets = (length, offset, count) => {
  const stream = new Uint8Array(length * count);
  for (let at = offset; at < stream.length; at += length) stream[at] = 0x47;
  return stream;
};

test("a file is known by its first bytes", () => {
  const known = {
    MP4: bytes([0, 0, 0, 24], "ftypisom"),
    "WebM or MKV": bytes([0x1a, 0x45, 0xdf, 0xa3]),
    AVI: bytes("RIFF", [0, 0, 0, 0], "AVI "),
    GIF: bytes("GIF89a"),
    WebP: bytes("RIFF", [0, 0, 0, 0], "WEBPVP8X", [10, 0, 0, 0, 0x02]),
    MPEG: bytes([0, 0, 1, 0xba]),
  };
  for (const [name, head] of Object.entries(known)) assert.equal(sniff(head), name);
  for (const [length, offset] of [[188, 0], [192, 4], [204, 0]]) assert.equal(sniff(packets(length, offset, 6)), "MPEG-TS");
});

test("text, pictures and playlists are no videos", () => {
  const others = [
    bytes("Dear diary"), bytes("#EXTM3U\n"), bytes([0xff, 0xd8, 0xff]), bytes(""), bytes([0, 0, 0, 24], "ftypheic"),
    bytes("RIFF", [0, 0, 0, 0], "WEBPVP8 "), bytes("RIFF", [0, 0, 0, 0], "WAVE"), bytes("G".repeat(50)),
  ];
  for (const head of others) assert.equal(sniff(head), null);
});

test("what is dropped goes to the tab that it is for", () => {
  assert.ok(looksLikeVideo({ name: "a.bin", type: "video/quicktime" }));
  assert.ok(looksLikeVideo({ name: "HOLIDAY.MTS", type: "" }));
  assert.ok(!looksLikeVideo({ name: "a.gif", type: "image/gif" }));
  assert.ok(!looksLikeVideo({ name: "notes.txt", type: "text/plain" }));
});
