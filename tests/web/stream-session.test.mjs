import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { Objects } from "../../clients/web/js/objects.js";
import { pack } from "../../clients/web/js/protocol.js";
import { StreamSession } from "../../clients/web/js/stream-session.js";
import { Wire } from "./far_end.mjs";

const settle = () => new Promise((resolve) => setTimeout(resolve, 5));
const DOOR = { url: null, name: "door", mode: "image" };
const CAMERA = { url: "rtsp://there/one", name: null };

let log;
let objects;
let shown;
let unpacking;
let session;

beforeEach(() => {
  Wire.all = [];
  log = [];
  shown = null;
  unpacking = [];
  globalThis.WebSocket = Wire;
  globalThis.createImageBitmap = (blob) => {
    return new Promise((resolve, reject) => {
      unpacking.push({ done: () => resolve({ size: blob.size, close: () => log.push("closed") }), fail: reject });
    });
  };
  objects = new Objects(() => {});
});

function open(wanted) {
  const server = { url: "ws://here/v1/stream", token: () => null, probe: async () => "ok" };
  session = new StreamSession(server, objects, wanted, {
    mode: () => "track",
    onReady: () => log.push("ready"),
    onResult: (result) => {
      shown = result.index;
      log.push(`result ${result.index}`);
    },
    onShape: () => log.push("shape"),
    onFailed: ({ code }) => log.push(`failed ${code}`),
    onRefused: ({ code }) => log.push(`refused ${code}`),
    onSource: (state, message) => log.push(`${state} ${message}`.trim()),
    onAnew: () => log.push("anew"),
    onState: () => {},
  });
  session.open();
}

function answer(index, ids = [], state = "tracked") {
  const found = ids.map((id) => ({ object_id: id, state, score: 0.9, area_px: 0, box_xyxy_px: null }));
  Wire.newest.say({ type: "result", index, width: 200, height: 100, dropped: 0, attachments: 1, objects: found });
  Wire.newest.onmessage({ data: pack({ type: "picture", index, format: "jpeg" }, Uint8Array.of(1)).buffer });
}

async function look(index, ids, state) {
  answer(index, ids, state);
  unpacking.at(-1).done();
  await settle();
}

function click(object = objects.add(), label = 1) {
  const mark = { kind: "point", x: 0.5, y: 0.5, label };
  objects.mark(object, mark);
  session.marked(object, mark, shown);
  return object;
}

const start = () => Wire.newest.sent[0];

test("a stream is asked for by its name alone; an address in the mode that is chosen here", () => {
  open(DOOR);
  Wire.newest.open();
  const common = { type: "start", version: 1, masks: "rle", picture: true };
  assert.deepEqual(start(), { ...common, source: "stream", name: "door" });
  open(CAMERA);
  Wire.newest.open();
  assert.deepEqual(start(), { ...common, source: "url", url: "rtsp://there/one", mode: "track", carry: true });
});

test("a picture is shown with its own masks; of those that come meanwhile the newest", async () => {
  open(DOOR);
  Wire.newest.open();
  for (const index of [4, 5, 6]) answer(index);
  assert.equal(unpacking.length, 1);
  unpacking[0].done();
  await settle();
  unpacking[1].done();
  await settle();
  assert.deepEqual(log, ["ready", "result 4", "closed", "result 6", "closed"]);
  answer(7);
  unpacking[2].fail(new Error("no picture"));
  await settle();
  await look(8);
  assert.equal(shown, 8);
});

test("a picture of a session that has ended is not shown", async () => {
  open(DOOR);
  Wire.newest.open();
  answer(4);
  session.close();
  unpacking[0].done();
  await settle();
  assert.deepEqual(log, ["ready", "closed"]);
});

test("a click is said of the picture that is shown, in its pixels", async () => {
  open(DOOR);
  Wire.newest.open();
  await look(9);
  click();
  const { object_id, points_xy_px, frame, replace } = Wire.newest.sent.at(-1);
  assert.deepEqual([object_id, points_xy_px, frame, replace], [1, [[100, 50]], 9, undefined]);
  await look(10, [1], "lost");
  click(objects.byId.get(1));
  assert.equal(Wire.newest.sent.at(-1).replace, true, "the stream does not track, whatever is chosen here");
});

test("clicks are taken back in their order, whoever clicked last; an object of one's own goes with its only one", async () => {
  open(DOOR);
  Wire.newest.open();
  await look(0, [4]);
  const own = click();
  click(objects.byId.get(4));
  for (let clicks = 0; clicks < 2; clicks++) {
    const { object, told } = objects.undo();
    session.undone(object, told);
  }
  assert.deepEqual(Wire.newest.said, ["prompt 5", "prompt 4", "undo", "undo"]);
  await look(1, [4, own.id]);
  assert.deepEqual([...objects.byId.keys()], [4]);
});

test("an object whose id somebody else took at the same moment gets another one, with all its clicks", async () => {
  open(DOOR);
  Wire.newest.open();
  await look(0, [4]);
  const own = click();
  click(own);
  click(objects.byId.get(4));
  const [, first, second, other] = Wire.newest.sent;
  assert.deepEqual([first, second, other].map((one) => [one.object_id, one.own]), [[5, true], [5, true], [4, undefined]]);
  objects.select(5);
  await look(1, [4, 5]);
  assert.equal(own.state, "tracked", "it is the other's");
  for (const { request_id } of [first, second])
    Wire.newest.say({ type: "error", code: "object_taken", message: "taken", request_id });
  assert.deepEqual(Wire.newest.said.slice(3), ["prompt 6", "prompt 6"]);
  const [again] = Wire.newest.sent.slice(-2);
  assert.deepEqual([again.own, again.frame, again.points_xy_px], [true, 0, first.points_xy_px]);
  assert.deepEqual([own.id, own.name, own.state, objects.selected], [6, "Object 6", "waiting", 6]);
  await look(2, [4, 5]);
  assert.deepEqual(objects.all().map(({ id, own }) => [id, own]), [[4, false], [6, true], [5, false]]);
  await look(3, [4, 5, 6]);
  assert.equal(own.state, "tracked");
  assert.ok(!log.some((word) => word.startsWith("failed")));
  for (let clicks = 0; clicks < 3; clicks++) session.undone(objects.undo().object, true);
  assert.deepEqual([...objects.byId.keys()], [4, 5]);
});

test("an object that was taken back before its id was found taken is not told again", async () => {
  open(DOOR);
  Wire.newest.open();
  await look(0);
  click();
  const { request_id } = Wire.newest.sent.at(-1);
  objects.undo();
  Wire.newest.say({ type: "error", code: "object_taken", message: "taken", request_id });
  assert.deepEqual(Wire.newest.said, ["prompt 1"]);
});

test("in another session the objects of the former one are everybody's", async () => {
  open(DOOR);
  Wire.newest.open();
  await look(0);
  const own = click();
  await look(1, [1]);
  session.openAnew();
  Wire.newest.open();
  await look(2, [1]);
  click(own);
  assert.deepEqual([Wire.newest.sent.at(-1).object_id, Wire.newest.sent.at(-1).own], [1, undefined]);
});

test("a click that the server does not take is taken back, and said", async () => {
  open(DOOR);
  Wire.newest.open();
  await look(0);
  click();
  const { request_id } = Wire.newest.sent.at(-1);
  Wire.newest.say({ type: "error", code: "bad_prompt", message: "nothing", request_id, index: 1 });
  assert.equal(objects.size, 0);
  assert.equal(log.at(-1), "failed bad_prompt");
});

test("a stream that cannot be had is said once, and not tried again by itself", () => {
  for (const wanted of [DOOR, CAMERA]) {
    open(wanted);
    Wire.newest.onopen();
    Wire.newest.say({ type: "error", code: "stream_unavailable", message: "no answer" });
    assert.deepEqual(log.splice(0), ["refused stream_unavailable"]);
    assert.equal(session.state, "closed");
  }
});

test("an address that was open before is tried again, and without its objects that is said", async () => {
  open(CAMERA);
  Wire.newest.open();
  await look(0, [1]);
  session.openAnew();
  mock.timers.enable({ apis: ["setTimeout"] });
  for (const code of ["bad_state", "stream_unavailable"]) {
    const { newest } = Wire;
    newest.onopen();
    newest.say({ type: "error", code, message: "not now" });
    assert.equal(log.at(-1), "lost not now");
    mock.timers.tick(10_000);
    assert.notEqual(Wire.newest, newest);
  }
  mock.timers.reset();
  Wire.newest.open();
  await look(0);
  assert.deepEqual(log.slice(-3), ["anew", "result 0", "closed"]);
  assert.equal(objects.size, 0);
});

test("what becomes of the source is passed on", () => {
  open(DOOR);
  Wire.newest.open();
  Wire.newest.say({ type: "source", state: "lost", message: "no answer" });
  Wire.newest.say({ type: "source", state: "live", message: "" });
  assert.deepEqual(log, ["ready", "lost no answer", "live"]);
});

test("another shape of the picture is told once", async () => {
  open(DOOR);
  Wire.newest.open();
  await look(0, [1]);
  Wire.newest.say({ type: "error", code: "frame_size", message: "another shape", index: 1 });
  objects.clear();
  Wire.newest.say({ type: "error", code: "frame_size", message: "another shape", index: 2 });
  assert.deepEqual(log.filter((word) => word === "shape"), ["shape"]);
});
