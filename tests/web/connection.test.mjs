import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { Connection } from "../../clients/web/js/connection.js";
import { pack, unpack } from "../../clients/web/js/protocol.js";

/** The other end of the wire, in the test's hands. */
class Wire {
  static all = [];

  constructor(url, protocols) {
    Object.assign(this, { url, protocols, sent: [] });
    Wire.all.push(this);
  }

  static get newest() {
    return Wire.all.at(-1);
  }

  send(data) {
    this.sent.push(data);
  }

  close() {}

  open() {
    this.onopen();
  }

  say(message) {
    this.onmessage({ data: typeof message === "string" || message instanceof ArrayBuffer ? message : JSON.stringify(message) });
  }

  end(code) {
    return this.onclose({ code });
  }
}

let log;
let answer;
let connection;

beforeEach(() => {
  Wire.all = [];
  globalThis.WebSocket = Wire;
  mock.timers.enable({ apis: ["setTimeout"] });
  log = [];
  answer = "ok";
  connection = new Connection(
    { url: "ws://here/v1/stream", token: () => "secret", probe: async () => answer },
    {
      start: () => ({ source: "frames" }),
      onReady: () => log.push("ready!"),
      onResult: (result, attachments) => log.push(["result", result.index, attachments.length]),
      onError: (error, request, about) => log.push(["error", error.code, request?.type ?? null, about]),
      onState: (state, why) => log.push(why ? `${state}: ${why}` : state),
    },
  );
});

afterEach(() => mock.timers.reset());

function makeReady() {
  connection.wake();
  Wire.newest.open();
  Wire.newest.say({ type: "ready" });
}

test("it starts a session as soon as the socket is open", () => {
  makeReady();
  assert.equal(Wire.newest.protocols[0], "streamseg.v1");
  assert.match(Wire.newest.protocols[1], /^streamseg\.token\./);
  assert.deepEqual(JSON.parse(Wire.newest.sent[0]), { type: "start", version: 1, source: "frames" });
  assert.deepEqual(log, ["connecting", "ready", "ready!"]);
});

test("waking what is awake does nothing", () => {
  makeReady();
  connection.wake();
  assert.equal(Wire.all.length, 1);
});

test("nothing is sent without a session", () => {
  connection.wake();
  assert.equal(connection.request({ type: "reset" }), null);
  assert.equal(connection.frame({ index: 0 }, new Uint8Array()), false);
});

test("frames are binary messages", () => {
  makeReady();
  connection.frame({ index: 4, timestamp_ms: 1.5 }, Uint8Array.of(7));
  const { header, payload } = unpack(Wire.newest.sent[1].buffer);
  assert.deepEqual(header, { type: "frame", index: 4, timestamp_ms: 1.5 });
  assert.deepEqual([...payload], [7]);
});

test("an error is handed over with the request that it answers, and what that was about", () => {
  makeReady();
  const id = connection.request({ type: "prompt", object_id: 1 }, "a click");
  Wire.newest.say({ type: "ok", of: "prompt", request_id: id });
  Wire.newest.say({ type: "error", code: "bad_prompt", request_id: id });
  Wire.newest.say({ type: "error", code: "overloaded" });
  assert.deepEqual(log.slice(-2), [["error", "bad_prompt", "prompt", "a click"], ["error", "overloaded", null, null]]);
});

test("a result waits for its attachments", () => {
  makeReady();
  Wire.newest.say({ type: "result", index: 0, attachments: 2 });
  const attachment = pack({ type: "mask", index: 0 }, Uint8Array.of(1)).buffer;
  Wire.newest.say(attachment);
  assert.notDeepEqual(log.at(-1), ["result", 0, 2]);
  Wire.newest.say(attachment);
  assert.deepEqual(log.at(-1), ["result", 0, 2]);
});

test("a broken connection is tried again, ever more slowly", async () => {
  makeReady();
  await Wire.newest.end(1006);
  assert.equal(log.at(-1), "waiting: lost");
  let before = 0;
  for (const longest of [625, 1250, 2500]) {
    mock.timers.tick(longest);
    assert.equal(log.at(-1), "connecting");
    await Wire.newest.end(1006);
    assert.ok(longest > before);
    before = longest;
  }
  assert.equal(log.at(-1), "waiting: busy");
});

test("a success makes the next pause short again", async () => {
  makeReady();
  await Wire.newest.end(1006);
  mock.timers.tick(625);
  Wire.newest.open();
  Wire.newest.say({ type: "ready" });
  await Wire.newest.end(1012);
  mock.timers.tick(625);
  assert.equal(log.at(-1), "connecting");
});

test("a refused token is not tried again", async () => {
  answer = "token";
  connection.wake();
  await Wire.newest.end(1006);
  assert.equal(log.at(-1), "refused: token");
  mock.timers.tick(60_000);
  assert.equal(Wire.all.length, 1);
});

test("a session that the server ended for idleness sleeps until it is woken", async () => {
  makeReady();
  await Wire.newest.end(1001);
  assert.equal(log.at(-1), "asleep");
  mock.timers.tick(60_000);
  assert.equal(Wire.all.length, 1);
  connection.wake();
  assert.equal(Wire.all.length, 2);
});

test("closing ends all attempts", async () => {
  makeReady();
  await Wire.newest.end(1006);
  connection.close();
  mock.timers.tick(60_000);
  assert.equal(Wire.all.length, 1);
  assert.equal(log.at(-1), "closed");
});

test("why the server ended a session is told apart, and another one is opened", async () => {
  makeReady();
  for (const [code, why] of [[1008, "slowed"], [1011, "fault"], [1012, "restarting"], [4000, "lost"]]) {
    await Wire.newest.end(code);
    assert.equal(log.at(-1), `waiting: ${why}`);
    mock.timers.tick(10_000);
    Wire.newest.open();
    Wire.newest.say({ type: "ready" });
  }
  assert.equal(Wire.all.length, 5);
});

test("a server that takes no session for long is not just full", async () => {
  connection.wake();
  const whys = new Set();
  for (let attempt = 0; attempt < 8; attempt++) {
    await Wire.newest.end(1006);
    whys.add(log.at(-1));
    mock.timers.tick(20_000);
  }
  assert.deepEqual([...whys], ["waiting: busy", "waiting: no_session"]);
});

/** An owner whose sessions can go on, with one that is ready. */
function makeResumable() {
  connection.owner.onResumed = () => log.push("resumed!");
  connection.wake();
  Wire.newest.open();
  Wire.newest.say({ type: "ready", session_id: "12ab", limits: { resume_s: 30 } });
}

const sent = () => Wire.newest.sent.map((text) => JSON.parse(text));

/** The websocket breaks, and another one is there. */
async function breakOff() {
  await Wire.newest.end(1006);
  mock.timers.tick(625);
  Wire.newest.open();
}

test("a session goes on over another websocket, with what did not arrive", async () => {
  makeResumable();
  const ids = ["prompt", "undo", "offer", "reset", "remove"].map((type) => connection.request({ type }, `the ${type}`));
  Wire.newest.say({ type: "ok", of: "prompt", request_id: ids[0] });
  await Wire.newest.end(1006);
  assert.ok(connection.away);
  ids.push(connection.request({ type: "prompt" }, "another"));
  assert.equal(connection.frame({ index: 0 }, new Uint8Array()), false);
  mock.timers.tick(625);
  Wire.newest.open();
  assert.deepEqual(Wire.newest.protocols.at(-1), "streamseg.session.12ab");
  Wire.newest.say({ type: "ready", session_id: "12ab", resumed: true, received: [ids[3]], limits: { resume_s: 30 } });
  assert.deepEqual(sent(), [
    { type: "resume", version: 1, session_id: "12ab", request_id: "resume" },
    { type: "undo", request_id: ids[1] },
    { type: "remove", request_id: ids[4] },
    { type: "prompt", request_id: ids[5] },
  ]);
  Wire.newest.say({ type: "error", code: "bad_state", request_id: ids[3] });
  Wire.newest.say({ type: "error", code: "bad_state", request_id: ids[3] });
  const expected = ["waiting: lost", "connecting", "ready", "resumed!", ["error", "bad_state", "reset", "the reset"]];
  assert.deepEqual(log.slice(-5), expected, "what is said once more is heard once");
});

test("where the session is gone another one is started on the same websocket", async () => {
  makeResumable();
  connection.request({ type: "undo" });
  await breakOff();
  Wire.newest.say({ type: "error", code: "session_gone", request_id: "resume" });
  assert.ok(!connection.away);
  assert.deepEqual(sent().map(({ type }) => type), ["resume", "start"]);
  Wire.newest.say({ type: "ready", session_id: "34cd", limits: { resume_s: 0 } });
  assert.deepEqual(log.slice(-4), ["connecting", "connecting", "ready", "ready!"]);
  assert.equal(sent().length, 2);
  await breakOff();
  assert.equal(sent()[0].type, "start", "this server keeps none");
});

test("what the server ended, or somebody else took, is not gone on with", async () => {
  for (const code of [1001, 1008, 1009, 4001]) {
    makeResumable();
    await Wire.newest.end(code);
    assert.ok(!connection.away, String(code));
    connection.close();
  }
});

test("without an owner that goes on a broken session is another one's start", async () => {
  connection.wake();
  Wire.newest.open();
  Wire.newest.say({ type: "ready", session_id: "12ab", limits: { resume_s: 30 } });
  await Wire.newest.end(1006);
  assert.equal(connection.request({ type: "undo" }), null);
  mock.timers.tick(625);
  Wire.newest.open();
  assert.deepEqual(sent().map(({ type }) => type), ["start"]);
});
