import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Objects, promptOf } from "../../clients/web/js/objects.js";

const { disc } = JSON.parse(readFileSync(process.env.STREAMSEG_CASES, "utf-8"));
const [HEIGHT, WIDTH] = disc.size;

function found(object_id, more = {}) {
  const area_px = 3400;
  const rle = { size: disc.size, counts: disc.counts };
  return { object_id, state: "tracked", score: 0.9, area_px, box_xyxy_px: [27, 7, 94, 74], rle, ...more };
}

test("a result gives an object its mask, and a point on it finds it", () => {
  const objects = new Objects(() => {});
  const { id } = objects.add();
  assert.equal(objects.byId.get(id).state, "waiting");
  objects.apply({ width: WIDTH, height: HEIGHT, objects: [found(id)] });
  assert.equal(objects.byId.get(id).state, "tracked");
  assert.equal(objects.at(0.5, 0.5), id);
  assert.equal(objects.at(0.02, 0.02), null);
});

test("a lost object has no mask to click", () => {
  const objects = new Objects(() => {});
  const { id } = objects.add();
  objects.apply({ width: WIDTH, height: HEIGHT, objects: [found(id)] });
  objects.apply({ width: WIDTH, height: HEIGHT, objects: [found(id, { state: "lost", area_px: 0, box_xyxy_px: null })] });
  assert.equal(objects.byId.get(id).state, "lost");
  assert.equal(objects.at(0.5, 0.5), null);
});

test("a late result does not bring back what was removed, nor is it taken for a newer object", () => {
  const objects = new Objects(() => {});
  const { id } = objects.add();
  objects.clear();
  const next = objects.add();
  objects.apply({ width: WIDTH, height: HEIGHT, objects: [found(id)] });
  assert.equal(objects.size, 1);
  assert.equal(next.state, "waiting");
});

test("removing the selected object leaves none selected", () => {
  const objects = new Objects(() => {});
  const { id } = objects.add();
  objects.select(id);
  objects.remove(id);
  assert.equal(objects.selected, null);
});

test("taking back removes the newest mark of all, and an object with its only one", () => {
  const objects = new Objects(() => {});
  const [one, two] = [objects.add(), objects.add()];
  const [a, b, c] = [1, 0, 1].map((label) => ({ kind: "point", x: 0.5, y: 0.5, label }));
  objects.mark(one, a);
  objects.mark(two, b);
  objects.mark(one, c);
  assert.deepEqual(objects.undo(), { object: one, mark: c, told: false });
  assert.equal(objects.undo().mark, b);
  assert.deepEqual([...objects.byId.keys()], [1]);
  objects.undo();
  assert.equal(objects.size, 0);
  assert.equal(objects.undo(), null);
});

test("after a refused mark the newest that is left is taken back", () => {
  const objects = new Objects(() => {});
  const [one, two] = [objects.add(), objects.add()];
  const [first, other, refused] = [0, 1, 2].map((x) => ({ kind: "point", x, y: 0, label: 1 }));
  objects.mark(one, first);
  objects.mark(two, other);
  objects.mark(one, refused);
  assert.ok(objects.refuse(one.id, refused));
  assert.ok(!objects.refuse(one.id, refused));
  assert.deepEqual(one.marks, [first]);
  assert.equal(objects.undo().mark, other);
  assert.ok(objects.refuse(one.id, first));
  assert.equal(objects.size, 0);
});

test("what was deleted is not taken back any more", () => {
  const objects = new Objects(() => {});
  const [one, two] = [objects.add(), objects.add()];
  objects.mark(one, { kind: "point", x: 0, y: 0, label: 1 });
  objects.mark(two, { kind: "point", x: 1, y: 0, label: 1 });
  objects.remove(two.id);
  assert.equal(objects.undo().object, one);
  objects.mark(objects.add(), { kind: "point", x: 1, y: 0, label: 1 });
  objects.clear();
  assert.equal(objects.history.size, 0);
});

test("marks become a prompt in pixels that lie inside the frame", () => {
  const marks = [
    { kind: "point", x: 0.5, y: 0.25, label: 1 },
    { kind: "point", x: 1, y: 1, label: 0 },
    { kind: "box", x1: 0, y1: 0.1, x2: 1, y2: 0.5 },
  ];
  assert.deepEqual(promptOf(7, marks, 640, 480), {
    object_id: 7,
    points_xy_px: [[320, 120], [639.9, 479.9]],
    labels: [1, 0],
    box_xyxy_px: [0, 48, 640, 240],
  });
});

test("the newest box counts", () => {
  const marks = [
    { kind: "box", x1: 0, y1: 0, x2: 0.5, y2: 0.5 },
    { kind: "box", x1: 0.5, y1: 0.5, x2: 1, y2: 1 },
  ];
  assert.deepEqual(promptOf(1, marks, 100, 100), { object_id: 1, box_xyxy_px: [50, 50, 100, 100] });
});

test("a hidden object is not clicked through its mask, and goes on all the same", () => {
  const objects = new Objects(() => {});
  const { id } = objects.add();
  objects.apply({ width: WIDTH, height: HEIGHT, objects: [found(id)] });
  objects.setHidden(id, true);
  assert.equal(objects.at(0.5, 0.5), null);
  objects.apply({ width: WIDTH, height: HEIGHT, objects: [found(id)] });
  assert.equal(objects.byId.get(id).hidden, true);
  objects.setHidden(id, false);
  assert.equal(objects.at(0.5, 0.5), id);
});

test("an object takes a name, and its first one back when that is empty", () => {
  const objects = new Objects(() => {});
  const object = objects.add();
  objects.rename(object.id, "  blue   cup ");
  assert.deepEqual([object.name, object.named], ["blue cup", true]);
  objects.rename(object.id, " ");
  assert.deepEqual([object.name, object.named], ["Object 1", false]);
  objects.rename(object.id, "x".repeat(99));
  assert.equal(object.name.length, 40);
  objects.rename(7, "nobody");
  assert.equal(objects.size, 1);
});
