/** Rows of labels over time, drawn on a canvas. */

import { inkOn, resolved } from "./colours.js";
import { fitted } from "./dom.js";
import { named } from "./words.js";

/**
 * @param {HTMLCanvasElement} canvas
 * @param {{start_s: number, end_s: number, label: ?string}[]} spans
 * @param {{start_s: number, end_s: number}[]} seen When somebody is in sight, paler, behind.
 * @param {(time_s: number) => number} x Place of a time from the left, in pixels.
 * @param {import("./colours.js").Palette} palette
 */
export function drawStrip(canvas, spans, seen, x, palette) {
  const { pen, width, height } = fitted(canvas);
  pen.save();
  pen.fillStyle = resolved("--rail");
  pen.beginPath();
  pen.roundRect(0, 0, width, height, 6);
  pen.fill();
  pen.clip();
  pen.fillStyle = resolved("--sight");
  for (const { start_s, end_s } of seen) pen.fillRect(x(start_s), 0, x(end_s) - x(start_s), height);
  pen.font = `600 12px ${getComputedStyle(canvas).fontFamily}`;
  pen.textBaseline = "middle";
  for (const { start_s, end_s, label } of spans) {
    const [left, right] = [Math.max(x(start_s), -9), Math.min(x(end_s), width + 9)];
    if (right < 0 || left > width) continue;
    const wide = Math.max(right - left - (right - left > 4 ? 1.5 : 0), 1);
    const colour = label ? palette.of(label) : resolved("--plain");
    const isUnsure = label === "unsure";
    if (isUnsure) {
      pen.strokeStyle = colour;
      pen.lineWidth = 1.25;
      hatch(pen, left, 0, wide, height, 5, 1);
    } else {
      pen.fillStyle = colour;
      pen.fillRect(left, 0, wide, height);
    }
    if (label)
      write(
        pen,
        named(label),
        Math.max(left, 0) + 7,
        Math.min(right, width) - 7,
        height,
        isUnsure,
        colour,
      );
  }
  pen.restore();
}

/** A label, if there is room for it. */
function write(pen, text, left, right, height, isUnsure, colour) {
  const wide = pen.measureText(text).width;
  if (wide > right - left) return;
  if (isUnsure) {
    pen.fillStyle = resolved("--card");
    pen.fillRect(left - 3, height / 2 - 8, wide + 6, 16);
  }
  pen.fillStyle = isUnsure ? resolved("--ink") : inkOn(colour);
  pen.fillText(text, left, height / 2 + 0.5);
}

/** Slanted lines in a rectangle. */
export function hatch(pen, left, top, width, height, step, slope) {
  if (width <= 0) return;
  pen.save();
  pen.beginPath();
  pen.rect(left, top, width, height);
  pen.clip();
  pen.beginPath();
  const first = Math.floor((left - height) / step) * step; // the lines of neighbours meet
  for (let x = first; x < left + width + height; x += step) {
    pen.moveTo(x, slope > 0 ? top + height : top);
    pen.lineTo(x + height, slope > 0 ? top : top + height);
  }
  pen.stroke();
  pen.restore();
}
