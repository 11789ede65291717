/**
 * Moving pictures to segment: a camera, or the sample clip in its place.
 */

const IDEAL_WIDTH = 1280;
const IDEAL_HEIGHT = 720;

/**
 * @typedef {object} MovingPictures
 * @property {HTMLVideoElement} video playing
 * @property {string | null} deviceId of the camera
 * @property {(ended: () => void) => void} onEnded called if it is taken away
 * @property {() => void} stop
 */

/** Whether browsers give a camera to this page at all. */
export function camerasAllowed() {
  return window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);
}

/**
 * @param {string | null} deviceId null: the one that looks away from the user, where there are two
 * @returns {Promise<MovingPictures>}
 */
export async function openCamera(deviceId) {
  const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: { ideal: "environment" } };
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { ...which, width: { ideal: IDEAL_WIDTH }, height: { ideal: IDEAL_HEIGHT } },
    audio: false,
  });
  const [track] = stream.getVideoTracks();
  const video = makeVideo();
  video.srcObject = stream;
  await video.play();
  return {
    video,
    deviceId: track.getSettings().deviceId ?? null,
    onEnded: (ended) => track.addEventListener("ended", ended),
    stop: () => {
      track.stop();
      video.srcObject = null;
    },
  };
}

/** @returns {Promise<MediaDeviceInfo[]>} */
export async function listCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter((device) => device.kind === "videoinput");
}

/**
 * @param {string} url
 * @returns {Promise<MovingPictures>}
 */
export async function openClip(url) {
  const video = makeVideo();
  video.loop = true;
  video.src = url;
  await video.play();
  return {
    video,
    deviceId: null,
    onEnded: () => {},
    stop: () => {
      video.pause();
      video.removeAttribute("src");
      video.load();
    },
  };
}

function makeVideo() {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  return video;
}
