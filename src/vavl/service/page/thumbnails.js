/** A small picture of each person's face, taken from the user's own file. */

import { h } from "./dom.js";
import { bisect } from "./series.js";

const SIDE_PX = 72;

/**
 * Canvases by the number of a person, which are drawn as soon as the file has been looked at.
 *
 * @param {string} url Of the file.
 * @param {object[]} people
 * @returns {{faces: Map<number, HTMLCanvasElement>, end: () => void}}
 */
export function thumbnails(url, people) {
  const faces = new Map();
  for (const { number, track } of people) {
    if (track.length)
      faces.set(
        number,
        h("canvas", { class: "face", width: SIDE_PX, height: SIDE_PX, "aria-hidden": "true" }),
      );
  }
  const video = h("video", { muted: true, preload: "auto", playsinline: true });
  const waiting = people
    .filter(({ number }) => faces.has(number))
    .map((person) => ({ number: person.number, place: bestPlace(person) }));
  const next = () => {
    if (waiting.length) video.currentTime = waiting[0].place[0];
    else video.removeAttribute("src");
  };
  video.addEventListener("loadeddata", next, { once: true });
  video.addEventListener("seeked", () => {
    const taken = waiting.shift();
    if (!taken) return;
    cut(video, taken.place[1], faces.get(taken.number));
    next();
  });
  if (waiting.length) video.src = url;
  return {
    faces,
    end() {
      waiting.length = 0;
      video.removeAttribute("src");
      video.load();
    },
  };
}

/** Where the face is seen in the window that is surest of it. */
function bestPlace({ track, timeline }) {
  const surest = [...timeline].sort(
    (a, b) =>
      (b.face_share ?? 0) - (a.face_share ?? 0) || (b.confidence ?? 0) - (a.confidence ?? 0),
  )[0];
  const time_s = surest ? (surest.start_s + surest.end_s) / 2 : track[0][0];
  return track[
    Math.min(
      bisect(track, time_s, ([t]) => t),
      track.length - 1,
    )
  ];
}

/** Copies a square around a box. */
function cut(video, [x0, y0, x1, y1], canvas) {
  const { videoWidth: width, videoHeight: height } = video;
  if (!width) return;
  const side = Math.max((x1 - x0) * width, (y1 - y0) * height) * 1.25;
  const [x, y] = [((x0 + x1) / 2) * width - side / 2, ((y0 + y1) / 2) * height - side / 2];
  canvas.getContext("2d").drawImage(video, x, y, side, side, 0, 0, SIDE_PX, SIDE_PX);
  canvas.classList.add("taken");
}
