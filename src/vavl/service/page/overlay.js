/** Boxes around faces, with a label, drawn over a picture. */

import { inkOn } from "./colours.js";
import { fitted } from "./dom.js";

/**
 * @typedef {{box: number[], text: string, colour: string}} Framed Box in shares of the picture; the
 *   text may have several lines.
 */

/**
 * Draws boxes on a canvas that lies over a picture, wherever in it the picture is shown.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {number} aspect Width by height of the picture.
 * @param {Framed[]} faces
 */
export function drawFaces(canvas, aspect, faces) {
  const { pen, width, height } = fitted(canvas);
  if (!width || !height) return;
  const shown = Math.min(width, height * aspect);
  const [left, top] = [(width - shown) / 2, (height - shown / aspect) / 2];
  const size = Math.max(12, Math.min(17, shown / 36));
  pen.font = `600 ${size}px ${getComputedStyle(canvas).fontFamily}`;
  pen.textBaseline = "middle";
  for (const { box, text, colour } of faces) {
    const [x0, x1] = [box[0], box[2]].map((x) => left + x * shown);
    const [y0, y1] = [box[1], box[3]].map((y) => top + (y * shown) / aspect);
    const radius = Math.min(10, (x1 - x0) / 6);
    for (const [line, style] of [
      [5, "rgb(0 0 0 / 0.35)"],
      [2.5, colour],
    ]) {
      pen.lineWidth = line;
      pen.strokeStyle = style;
      pen.beginPath();
      pen.roundRect(x0, y0, x1 - x0, y1 - y0, radius);
      pen.stroke();
    }
    const lines = text.split("\n");
    const wide = Math.max(...lines.map((line) => pen.measureText(line).width)) + size;
    const tall = size * (0.4 + 1.3 * lines.length);
    const x = Math.max(0, Math.min(x0 - 1, width - wide));
    const y = Math.max(0, y0 - tall - 4);
    pen.fillStyle = colour;
    pen.beginPath();
    pen.roundRect(x, y, wide, tall, 5);
    pen.fill();
    pen.fillStyle = inkOn(colour);
    lines.forEach((line, n) => pen.fillText(line, x + size / 2, y + size * (0.88 + 1.3 * n)));
  }
}
