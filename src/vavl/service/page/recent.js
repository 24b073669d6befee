/** The last minute of a live stream, as curves and a row of labels. */

import uPlot from "./vendor/uPlot/uPlot.esm.js";
import { BARE, axes } from "./axes.js";
import { onTheme } from "./colours.js";
import { h } from "./dom.js";
import { drawStrip } from "./strips.js";
import { valuesOf } from "./series.js";

const SHOWN_S = 60;
const GUTTER_PX = 44;
const RIGHT_PX = 14;
/** A new answer comes every half second; a longer silence is a gap. */
const LONGEST_STEP_S = 1.2;

export class Recent {
  /** @param {string[]} names @param {import("./colours.js").Palette} palette @param {boolean} areCategories */
  constructor(names, palette, areCategories) {
    this.names = names;
    this.palette = palette;
    this.answers = []; // {time_s, prediction}
    this.now_s = 0;
    this.chart = h("div", { class: "chart" });
    this.canvas = h("canvas", {});
    this.element = h(
      "div",
      { class: "recent", role: "img", "aria-label": "Answers of the last minute" },
      this.chart,
      this.canvas,
    );
    this.ending = new AbortController();
    const ago = (time_s) => {
      const seconds = Math.round(time_s - this.now_s);
      return seconds > -1 ? "now" : `${-seconds} s ago`;
    };
    this.plot = new uPlot(
      {
        width: 600,
        height: 180,
        padding: [10, RIGHT_PX, 0, 0],
        ...BARE,
        scales: { x: { time: false, range: () => this._range }, y: { range: [0, 1] } },
        axes: axes(GUTTER_PX, areCategories, ago),
        series: [
          {},
          ...names.map((name) => ({
            stroke: () => palette.of(name),
            width: 2,
            points: { show: false },
          })),
        ],
      },
      [[], ...names.map(() => [])],
      this.chart,
    );
    this.plot.axes[0].splits = () =>
      (this.plot.width < 500 ? [-60, -30, 0] : [-60, -45, -30, -15, 0]).map((s) => this.now_s + s);
    this.sizes = new ResizeObserver(() => this._fit());
    this.sizes.observe(this.element);
    onTheme(() => this._draw(), this.ending.signal);
  }

  /** @param {number} time_s End of a window, since the beginning. @param {object} prediction */
  add(time_s, prediction) {
    this.answers.push({ time_s, prediction });
    while (this.answers[0].time_s < time_s - SHOWN_S - 5) this.answers.shift();
  }

  /** Moves on to a time. */
  show(now_s) {
    this.now_s = now_s;
    this._draw();
  }

  end() {
    this.ending.abort();
    this.sizes.disconnect();
    this.plot.destroy();
  }

  get _range() {
    return [this.now_s - SHOWN_S, this.now_s];
  }

  _fit() {
    if (!this.element.clientWidth) return;
    this.plot.setSize({ width: this.element.clientWidth, height: 180 });
    this._draw();
  }

  _draw() {
    const [times, values] = [[], this.names.map(() => [])];
    const labels = [];
    for (const { time_s, prediction } of this.answers) {
      const isGap = times.length && time_s - times.at(-1) > LONGEST_STEP_S;
      const rows = isGap ? [[times.at(-1) + 0.01, null]] : [];
      rows.push([time_s, prediction.modality ? valuesOf(prediction) : null]);
      for (const [time, known] of rows) {
        times.push(time);
        this.names.forEach((name, number) => values[number].push(known?.[name] ?? null));
      }
      const { label } = prediction;
      const last = labels.at(-1);
      if (last && last.label === label && !isGap) last.end_s = time_s;
      else if (label)
        labels.push({ start_s: last && !isGap ? last.end_s : time_s - 0.5, end_s: time_s, label });
    }
    this.plot.setData([times, ...values]);
    const width = this.canvas.clientWidth;
    if (width)
      drawStrip(
        this.canvas,
        labels,
        [],
        (t) => (1 - (this.now_s - t) / SHOWN_S) * width,
        this.palette,
      );
  }
}
