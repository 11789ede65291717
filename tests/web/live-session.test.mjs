import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, test } from "node:test";
import { Frames } from "../../clients/web/js/frames.js";
import { LiveSession } from "../../clients/web/js/live-session.js";
import { Objects } from "../../clients/web/js/objects.js";
import { Canvas, Wire } from "./far_end.mjs";

const { disc, empty } = JSON.parse(readFileSync(process.env.STREAMSEG_CASES, "utf-8"));
const [HEIGHT, WIDTH] = disc.size;

const settle = () => new Promise((resolve) => setTimeout(resolve, 5));
const point = (label = 1) => ({ kind: "point", x: 0.5, y: 0.5, label });

let mode;
let log;
let objects;
let frames;
let session;

beforeEach(() => {
  Wire.all = [];
  globalThis.WebSocket = Wire;
  globalThis.document = { createElement: () => new Canvas() };
  mode = "track";
  log = [];
  objects = new Objects(() => {});
  frames = new Frames((index, timestampMs, jpeg) => session.send(index, timestampMs, jpeg));
  frames.setSize(WIDTH, HEIGHT);
  const server = { url: "ws://here/v1/stream", token: () => null, probe: async () => "ok" };
  session = new LiveSession(server, objects, frames, {
    mode: () => mode,
    picture: () => "live picture",
    onReady: () => log.push("ready"),
    onResult: (result) => log.push(`result ${result.index}`),
    onShape: () => log.push("shape"),
    onFailed: (error) => log.push(`failed ${error.code}`),
    onState: () => {},
  });
  session.open();
});

function add() {
  return objects.add();
}

/** A click on the object, on the live picture unless a frame is named. */
async function click(object, mark = point(), shownIndex = null) {
  objects.mark(object, mark);
  session.marked(object, mark, shownIndex);
  await settle();
  return mark;
}

function answer(index, states) {
  const found = Object.entries(states).map(([id, state]) => {
    const seen = state === "tracked";
    const rle = seen ? disc : empty;
    return { object_id: Number(id), state, score: 0.9, area_px: seen ? 3400 : 0, box_xyxy_px: null, rle };
  });
  Wire.newest.say({ type: "result", index, width: WIDTH, height: HEIGHT, dropped: 0, attachments: 0, objects: found });
}

const requestOf = (type) => Wire.newest.sent.findLast((message) => message.type === type);

/** Object 1 clicked and followed, on frame 0. */
async function followed() {
  Wire.newest.open();
  const object = add();
  await click(object);
  answer(0, { 1: "tracked" });
  return object;
}

test("a session is started in the mode that is chosen, and another one when it is changed", () => {
  Wire.newest.open();
  mode = "image";
  session.openAnew();
  Wire.newest.open();
  const starts = Wire.all.map(({ sent }) => sent[0]);
  assert.deepEqual(starts.map(({ source, mode }) => [source, mode]), [["frames", "track"], ["frames", "image"]]);
});

test("a click on the live picture is followed by that very picture", async () => {
  await followed();
  assert.deepEqual(Wire.newest.said, ["prompt 1", "frame 0"]);
  assert.deepEqual(Object.keys(requestOf("prompt")), ["type", "object_id", "points_xy_px", "labels", "request_id"]);
  assert.deepEqual(log, ["ready", "result 0"]);
});

test("a click on a frame that is shown names it and sends none", async () => {
  const object = await followed();
  await click(object, point(0), 0);
  assert.deepEqual(Wire.newest.said, ["prompt 1", "frame 0", "prompt 1"]);
  assert.equal(requestOf("prompt").frame, 0);
});

test("a lost object that is clicked is corrected by the tracker, and starts afresh without it", async () => {
  const object = await followed();
  answer(1, { 1: "lost" });
  const cases = [["track", point(), undefined], ["image", point(0), undefined], ["image", point(), true]];
  for (const [chosen, mark, replace] of cases) {
    mode = chosen;
    object.state = "lost";
    await click(object, mark, 1);
    assert.equal(requestOf("prompt").replace, replace, `${chosen} ${mark.label}`);
  }
});

test("what an object was before it started afresh cannot be taken back", async () => {
  mode = "image";
  const object = await followed();
  object.state = "lost";
  const mark = await click(object, point(), 0);
  assert.deepEqual(object.marks, [mark]);
  assert.equal(objects.history.size, 1);
});

test("taking back is asked of the server; an only prompt takes its object along", async () => {
  const object = await followed();
  await click(object, point(0), 0);
  for (const left of [1, 0]) {
    const { object: changed, told } = objects.undo();
    session.undone(changed, told);
    assert.equal(objects.size, left);
  }
  assert.deepEqual(Wire.newest.said.slice(-2), ["undo", "undo"]);
});

test("an only prompt that may be refused at this moment is taken back with its object", async () => {
  await followed();
  await click(add(), point(), 0);
  const { object, told } = objects.undo();
  session.undone(object, told);
  assert.deepEqual(Wire.newest.said.slice(-1), ["remove 2"]);
  Wire.newest.say({ type: "error", code: "bad_prompt", request_id: requestOf("prompt").request_id, index: 1 });
  Wire.newest.say({ type: "error", code: "not_found", request_id: requestOf("remove").request_id });
  assert.deepEqual(log, ["ready", "result 0"]);
  assert.deepEqual([...objects.byId.keys()], [1]);
});

test("where the server has nothing to take back, neither has the page", async () => {
  const object = await followed();
  await click(object, point(0), 0);
  const { told } = objects.undo();
  session.undone(object, told);
  Wire.newest.say({ type: "error", code: "bad_state", request_id: requestOf("undo").request_id });
  assert.equal(objects.history.size, 0);
  assert.equal(objects.size, 1);
});

test("a click under which nothing is found makes no object, and takes nothing else along", async () => {
  await followed();
  await click(add(), point(), 0);
  const { request_id } = requestOf("prompt");
  Wire.newest.say({ type: "ok", of: "prompt", request_id });
  await click(objects.byId.get(1), point(0), 0);
  Wire.newest.say({ type: "error", code: "bad_prompt", message: "nothing was found", request_id, index: 1 });
  assert.deepEqual([...objects.byId.keys()], [1]);
  assert.equal(objects.byId.get(1).marks.length, 2);
  assert.equal(objects.history.size, 2);
  assert.equal(log.at(-1), "failed bad_prompt");
});

test("in a new session objects go on from where they were last seen, then comes what was clicked since", async () => {
  await followed();
  await click(add(), point(), 0);
  frames.take("second");
  await settle();
  answer(1, { 1: "tracked", 2: "tracked" });
  frames.take("third");
  await settle();
  answer(2, { 1: "lost", 2: "tracked" });
  const seen = session.sightings.rounds().map(({ picture }) => picture);
  assert.deepEqual(seen.map(({ drawn }) => drawn), ["second", "third"]);

  session.openAnew();
  await click(add());
  Wire.newest.open();
  await settle();
  assert.deepEqual(Wire.newest.said, ["prompt mask 1", "frame 0"]);
  assert.equal([...frames.onTheWay.values()][0].drawn, seen[0]);
  assert.ok(!session.hasRoom);
  answer(0, { 1: "tracked" });
  await settle();
  assert.deepEqual(Wire.newest.said.slice(2), ["prompt mask 2", "frame 1"]);
  assert.equal(objects.byId.get(1).state, "lost", "an old picture says nothing of the present");
  answer(1, { 1: "lost", 2: "tracked" });
  await settle();
  assert.deepEqual(Wire.newest.said.slice(4), ["prompt 3", "frame 2"]);
  assert.equal([...frames.onTheWay.values()][0].drawn, "live picture");
  assert.ok(session.hasRoom);
  assert.equal(objects.history.size, 1, "only what this session was told can be taken back");
  answer(2, { 1: "lost", 2: "tracked", 3: "tracked" });
  assert.equal(log.at(-1), "result 2");
});

test("an object that was not seen yet is told again; one that was deleted is not", async () => {
  await followed();
  await click(add(), point(), 0);
  objects.remove(1);
  session.openAnew();
  Wire.newest.open();
  await settle();
  assert.deepEqual(Wire.newest.said, ["prompt 2", "frame 0"]);
});

test("an object that cannot go on is gone, and said so", async () => {
  await followed();
  session.openAnew();
  Wire.newest.open();
  await settle();
  Wire.newest.say({ type: "error", code: "bad_prompt", message: "no", request_id: requestOf("prompt").request_id });
  assert.equal(objects.size, 0);
  assert.equal(log.at(-1), "failed bad_prompt");
});

test("a result makes room for the frames before it, which the server left out", async () => {
  await followed();
  for (const picture of ["a", "b"]) frames.take(picture);
  await settle();
  answer(2, { 1: "tracked" });
  assert.equal(frames.waiting, 0);
});

test("a frame that fails while objects are told again does not hold up the rest", async () => {
  await followed();
  session.openAnew();
  Wire.newest.open();
  await settle();
  Wire.newest.say({ type: "error", code: "internal", message: "no", index: 0 });
  assert.ok(session.hasRoom);
});

test("another shape of the picture is told once, and its frames make room for others", async () => {
  await followed();
  for (const picture of ["a", "b"]) frames.take(picture);
  await settle();
  assert.ok(!session.hasRoom);
  Wire.newest.say({ type: "error", code: "frame_size", message: "another shape", index: 1 });
  objects.clear();
  Wire.newest.say({ type: "error", code: "frame_size", message: "another shape", index: 2 });
  assert.deepEqual(log.slice(2), ["shape"]);
  assert.ok(session.hasRoom);
});

/** The websocket breaks, and another one is there; the page's own pause is not waited for. */
async function breakOff() {
  await Wire.newest.lose();
  clearTimeout(session.connection.retryTimer);
}

async function comeBack(received = []) {
  session.connection.open();
  Wire.newest.resume(received);
  await settle();
}

test("a session goes on after its websocket broke, and no mask is told again", async () => {
  const object = await followed();
  await click(object, point(0), 0);
  frames.take("lost");
  await settle();
  await breakOff();
  assert.ok(!session.settled && !session.goesOn);
  assert.equal(objects.history.size, 2);
  const received = Wire.newest.sent.map(({ request_id }) => request_id).filter(Boolean);
  await comeBack(received);
  assert.deepEqual(Wire.newest.sent.map(({ type }) => type), ["resume"]);
  assert.ok(session.hasRoom);
  answer(1, { 1: "lost" });
  assert.equal(object.state, "tracked", "of a frame that is not there any more");
  frames.take("next");
  await settle();
  assert.deepEqual(Wire.newest.said, ["frame 2"]);
  answer(2, { 1: "tracked" });
  assert.deepEqual(log, ["ready", "result 0", "result 2"]);
  assert.equal(objects.history.size, 2, "it can still be taken back");
});

test("what was done while the websocket was away is told after it", async () => {
  const object = await followed();
  await click(object, point(0), 0);
  await click(add(), point(), 0);
  const received = Wire.newest.sent.map(({ request_id }) => request_id).filter(Boolean);
  await breakOff();
  objects.remove(2);
  session.removed(2);
  const { object: changed, told } = objects.undo();
  session.undone(changed, told);
  await click(add());
  await comeBack(received);
  assert.deepEqual(Wire.newest.said, ["remove 2", "undo", "prompt 3", "frame 1"]);
  assert.deepEqual([...objects.byId.keys()], [1, 3]);
});

test("where the session is gone the objects go on in another one", async () => {
  await followed();
  await breakOff();
  session.connection.open();
  Wire.newest.onopen();
  Wire.newest.say({ type: "error", code: "session_gone", message: "gone", request_id: "resume" });
  Wire.newest.say({ type: "ready", session_id: "another", limits: { max_objects: 64, resume_s: 30 } });
  await settle();
  assert.deepEqual(Wire.newest.said, ["start", "prompt mask 1", "frame 0"]);
  assert.equal(objects.history.size, 0);
  // This one knows nothing yet that would be worth coming back to.
  await breakOff();
  session.connection.open();
  Wire.newest.open();
  await settle();
  assert.deepEqual(Wire.newest.said, ["prompt mask 1", "frame 0"]);
  answer(0, { 1: "tracked" });
  assert.ok(session.settled);
});
