/** The charts of a clip as one picture, with title and legend, in the colours shown now. */

import { resolved } from "./colours.js";
import { clock, decimal, madeFrom, named, percent, ranked, said } from "./words.js";

const MARGIN_PX = 28;
const SCALE = 2;
const LEGEND_PX = 24;

/**
 * @param {object} prediction
 * @param {import("./charts.js").Timeline} timeline
 * @param {import("./colours.js").Palette} palette
 * @returns {Promise<Blob>} A PNG.
 */
export function pictureOf(prediction, timeline, palette) {
  const width = timeline.tracks.clientWidth;
  const chart = timeline.plot.ctx.canvas;
  const chartHeight = timeline.plot.height;
  const rowHeights = timeline.rows.map(({ canvas }) => canvas.clientHeight + 22);
  const value = timeline.areCategories ? percent : decimal;
  const legend = ranked(prediction).filter(([name]) => !timeline.hidden.has(name));
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d");
  const font = (size, weight = 400) =>
    `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;

  // A legend as wide as the picture decides how many lines it has.
  pen.font = font(13);
  const lines = [[]];
  let used = 0;
  for (const [name, share] of legend) {
    const text = `${named(name)} ${value(share)}`;
    const wide = pen.measureText(text).width + 36;
    if (used + wide > width && lines.at(-1).length) {
      lines.push([]);
      used = 0;
    }
    lines.at(-1).push({ name, text, x: used });
    used += wide;
  }
  const tops = { title: MARGIN_PX + 20, subtitle: MARGIN_PX + 44, legend: MARGIN_PX + 74 };
  const chartTop = tops.legend + lines.length * LEGEND_PX;
  const height =
    chartTop + chartHeight + rowHeights.reduce((sum, h) => sum + h, 0) + MARGIN_PX + 18;
  canvas.width = (width + 2 * MARGIN_PX) * SCALE;
  canvas.height = height * SCALE;
  pen.scale(SCALE, SCALE);
  pen.fillStyle = resolved("--paper");
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.translate(MARGIN_PX, 0);

  pen.fillStyle = resolved("--ink");
  pen.font = font(20, 650);
  pen.fillText(`${prediction.name}: ${said(prediction)}`, 0, tops.title, width);
  pen.fillStyle = resolved("--muted");
  pen.font = font(13);
  const [from, to] = timeline.range;
  pen.fillText(
    `From ${madeFrom(prediction.modality)}, ${clock(from)} to ${clock(to)}. Numbers: the whole clip.`,
    0,
    tops.subtitle,
    width,
  );
  lines.forEach((line, number) => {
    for (const { name, text, x } of line) {
      const y = tops.legend + number * LEGEND_PX;
      pen.fillStyle = palette.of(name);
      pen.beginPath();
      pen.roundRect(x, y - 10, 12, 12, 3);
      pen.fill();
      pen.fillStyle = resolved("--ink");
      pen.fillText(text, x + 18, y);
    }
  });
  pen.drawImage(chart, 0, chartTop, width, chartHeight);
  let top = chartTop + chartHeight;
  timeline.rows.forEach(({ name, canvas: strip }, number) => {
    pen.fillStyle = resolved("--muted");
    pen.fillText(name, timeline.gutter, top + 14);
    pen.drawImage(strip, timeline.gutter, top + 20, strip.clientWidth, strip.clientHeight);
    top += rowHeights[number];
  });
  pen.fillStyle = resolved("--muted");
  pen.font = font(12);
  const bands = [
    timeline.unheard.length && "/ nobody speaks",
    timeline.unseen.length && "\\ no face is seen",
  ];
  pen.fillText([...bands.filter(Boolean), "made with vavl"].join("   ·   "), 0, top + 24);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
