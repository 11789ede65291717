/**
 * Tells the page the RTP timestamp of each frame that it sends, and lets the frames pass.
 */

/** @typedef {{readable: ReadableStream, writable: WritableStream}} Transformer */

addEventListener("rtctransform", (event) => {
  const { transformer } = /** @type {Event & {transformer: Transformer}} */ (event);
  const noted = new TransformStream({
    transform(frame, controller) {
      const rtp = frame.getMetadata().rtpTimestamp ?? frame.timestamp;
      postMessage({ rtp, atMs: performance.timeOrigin + performance.now() });
      controller.enqueue(frame);
    },
  });
  void transformer.readable.pipeThrough(noted).pipeTo(transformer.writable);
});
