/**
 * A strong blur that costs next to nothing: the picture is made small in steps and large again. No filter is needed,
 * which some browsers lack, and which take longer the wider they are.
 */

const FIRST_SIDE = 384;
const STEPS = 3;

/** @type {HTMLCanvasElement[]} */
const steps = [];

/**
 * The sizes of the steps down: a part of the first, halved each time.
 * @param {number} width @param {number} height
 */
export function stepSizes(width, height) {
  const scale = Math.min(1, FIRST_SIDE / Math.max(width, height));
  return Array.from({ length: STEPS + 1 }, (_, step) => ({
    width: Math.max(1, Math.round((width * scale) / 2 ** step)),
    height: Math.max(1, Math.round((height * scale) / 2 ** step)),
  }));
}

/**
 * A small blurred copy, to be drawn large. It holds until the next call.
 * @param {HTMLCanvasElement} picture
 */
export function softened(picture) {
  const sizes = stepSizes(picture.width, picture.height);
  sizes.forEach((size, step) => {
    steps[step] ??= document.createElement("canvas");
    const canvas = steps[step];
    if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
    fit(step ? steps[step - 1] : picture, canvas);
  });
  for (let step = sizes.length - 1; step > 0; step--) fit(steps[step], steps[step - 1]);
  return steps[0];
}

/**
 * @param {HTMLCanvasElement} from
 * @param {HTMLCanvasElement} to
 */
function fit(from, to) {
  const context = /** @type {CanvasRenderingContext2D} */ (to.getContext("2d"));
  context.imageSmoothingQuality = "medium";
  context.drawImage(from, 0, 0, to.width, to.height);
}
