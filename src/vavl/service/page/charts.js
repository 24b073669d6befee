/** A clip over time: curves, sentences and people, in step with the playback. */

import uPlot from "./vendor/uPlot/uPlot.esm.js";
import { BARE, axes } from "./axes.js";
import { onTheme, resolved } from "./colours.js";
import { h, icon } from "./dom.js";
import { curves, gaps, seen, spans, valuesOf, windowAt } from "./series.js";
import { steer } from "./steering.js";
import { drawStrip, hatch } from "./strips.js";
import { Tip } from "./tip.js";
import { clock, decimal, madeFrom, named, percent, ranked, said } from "./words.js";

/** Between the right end of the rows and of the page. */
const RIGHT_PX = 14;
/** A point of a curve for so many pixels at most. */
const POINT_PX = 3;
/** As far as one can zoom in. */
const SHORTEST_S = 4;
/** A curve stands out that is the highest for at least such a share of the time. */
const OFTEN = 0.1;

/** Rows with one axis of time, which `steering.js` lets keys and pointers move along. */
export class Timeline {
  /**
   * @param {object} prediction With timeline, people and segments.
   * @param {import("./colours.js").Palette} palette
   * @param {import("./player.js").Playback} playback
   * @param {{hears: boolean, faces: Map<number, HTMLCanvasElement>}} shown Whether sentences were
   *   asked for, and a picture of each person, by number.
   */
  constructor(prediction, palette, playback, { hears, faces }) {
    this.prediction = prediction;
    this.palette = palette;
    this.playback = playback;
    this.duration_s = playback.duration_s;
    this.range = [0, this.duration_s];
    this.timeline = prediction.timeline;
    this.names = Object.keys(valuesOf(prediction));
    this.areCategories = Object.keys(prediction.probabilities).length > 0;
    this.hidden = new Set();
    this.ending = new AbortController();
    this._findBands(hears);
    this._build(hears, faces);
    this._watch();
  }

  end() {
    this.ending.abort();
    this.sizes.disconnect();
    this.plot.destroy();
  }

  _findBands(hears) {
    const { prediction, duration_s } = this;
    const tracks = prediction.people.flatMap((person) => seen(person.track));
    this.unseen = prediction.face_share === null ? [] : gaps(tracks, duration_s, 0.3);
    this.unheard = hears ? gaps(prediction.segments, duration_s, 0.2) : [];
    this.rows = [];
    if (hears)
      this.rows.push({
        name: "Sentences",
        spans: prediction.segments.filter((s) => s.modality),
        seen: [],
      });
    for (const person of prediction.people)
      this.rows.push({
        name: `Person ${person.number}`,
        person,
        spans: spans(person.timeline),
        seen: seen(person.track),
      });
  }

  // --- what is there --------------------------------------------------------------------------

  _build(hears, faces) {
    this.chart = h("div", { class: "chart" });
    this.playhead = h("div", { class: "playhead" });
    this.tip = new Tip(this);
    for (const row of this.rows) row.canvas = h("canvas", {});
    this.tracks = h(
      "div",
      {
        class: "tracks",
        tabindex: 0,
        role: "slider",
        "aria-label": "Position in the clip",
        "aria-valuemin": 0,
        "aria-valuemax": Math.round(this.duration_s * 10) / 10,
        "aria-describedby": "tracks-help",
      },
      this.chart,
      this.rows.map((row) =>
        h("div", { class: "row" }, h("span", { class: "row-name" }, row.name), row.canvas),
      ),
      this.playhead,
      this.tip.line,
    );
    this.element = h(
      "section",
      { class: "card timeline", "aria-label": "Over time" },
      h("div", { class: "bar" }, h("h2", {}, "Over time"), this._zooming()),
      this._choosing(faces),
      this._legend(),
      h("div", { class: "stage-of-tracks" }, this.tracks, this.tip.element),
      this._key(hears),
    );
    this.plot = this._plot();
  }

  _zooming() {
    const button = (name, label, run) =>
      h(
        "button",
        { class: "round small", type: "button", "aria-label": label, title: label, onclick: run },
        icon(name),
      );
    this.zoomOut = button("minus", "Zoom out", () => this.zoom(2));
    this.zoomIn = button("plus", "Zoom in", () => this.zoom(0.5));
    this.zoomAll = h(
      "button",
      { class: "quiet small", type: "button", onclick: () => this.show(0, this.duration_s) },
      "Whole clip",
    );
    return h("div", { class: "zooming" }, this.zoomAll, this.zoomOut, this.zoomIn);
  }

  /** Whose curves are shown: everything together, or one person's face. */
  _choosing(faces) {
    const people = this.prediction.people.filter((person) => person.timeline.length);
    if (people.length < 1) return null;
    // Attributes would be too long here.
    const short = (person) => (person.label ? [said(person)] : []);
    const choices = [
      {
        text: "The clip",
        more: short(this.prediction).concat(madeFrom(this.prediction.modality)).join(", "),
        timeline: this.prediction.timeline,
        face: null,
      },
      ...people.map((person) => ({
        text: `Person ${person.number}`,
        more: short(person).concat("face alone").join(", "),
        timeline: person.timeline,
        face: faces.get(person.number),
      })),
    ];
    return h(
      "fieldset",
      { class: "choosing" },
      h("legend", { class: "unseen" }, "Whose curves"),
      choices.map(({ text, more, timeline, face }, number) =>
        h(
          "label",
          { class: "choice" },
          h("input", {
            type: "radio",
            name: "curves",
            checked: number === 0,
            onchange: () => {
              this.timeline = timeline;
              this._setCurves(true);
              this._emphasise(null);
              this._tellTime(this.playback.time_s);
            },
          }),
          face ?? null,
          h("span", {}, h("strong", {}, text), h("span", { class: "muted" }, more)),
        ),
      ),
    );
  }

  _legend() {
    this.keys = new Map();
    const list = h("ul", { class: "legend", "aria-label": "Curves" });
    const means = ranked(this.prediction).map(([name]) => name);
    for (const name of means) {
      const value = h("span", { class: "value" });
      const button = h(
        "button",
        {
          type: "button",
          "aria-pressed": "true",
          onclick: () => this._toggle(name, button),
          onpointerenter: () => this._emphasise(name),
          onpointerleave: () => this._emphasise(null),
          onfocus: () => this._emphasise(name),
          onblur: () => this._emphasise(null),
        },
        h("span", { class: "swatch" }),
        named(name),
        value,
      );
      this.keys.set(name, value);
      list.append(h("li", {}, this.palette.tint(button, name)));
    }
    return list;
  }

  _key(hears) {
    const lines = [];
    if (this.unheard.length) lines.push(h("span", { class: "band unheard" }, "nobody speaks"));
    if (this.unseen.length) lines.push(h("span", { class: "band unseen-face" }, "no face is seen"));
    this.coarse = h("span", { class: "muted", hidden: true });
    return h(
      "p",
      { class: "key" },
      lines,
      this.coarse,
      h(
        "span",
        { class: "muted", id: "tracks-help" },
        `Click to go there${hears && this.prediction.segments.length ? ", or on a sentence to hear it" : ""}. Keys: arrows, space, plus and minus.`,
      ),
    );
  }

  _plot() {
    return new uPlot(
      {
        width: 600,
        height: 240,
        padding: [10, RIGHT_PX, 0, 0],
        ...BARE,
        scales: { x: { time: false, range: () => this.range }, y: { range: [0, 1] } },
        axes: axes(
          () => this.gutter ?? 44,
          this.areCategories,
          (t) => clock(t, this._tenths),
        ),
        series: [
          {},
          ...this.names.map((name) => ({
            stroke: () => this.palette.of(name),
            points: { show: (plot) => plot.data[0].length === 1, size: 8 },
          })),
        ],
        hooks: { drawClear: [(plot) => this._drawBands(plot)] },
      },
      curves(this.timeline, this.names),
      this.chart,
    );
  }

  // --- which part, which curves ---------------------------------------------------------------

  get _tenths() {
    return this.range[1] - this.range[0] < 8;
  }

  /** Shows a span of the clip. */
  show(from_s, to_s) {
    const length = Math.min(
      this.duration_s,
      Math.max(to_s - from_s, Math.min(SHORTEST_S, this.duration_s)),
    );
    const from = Math.min(Math.max(from_s, 0), this.duration_s - length);
    this.range = [from, from + length];
    this._setCurves(false);
    this._draw();
    this._tellTime(this.playback.time_s);
  }

  /** Shows so much of what is shown, around a time. */
  zoom(factor, around_s = this.playback.time_s) {
    const [from, to] = this.range;
    const fixed = around_s < from || around_s > to ? (from + to) / 2 : around_s;
    this.show(fixed - (fixed - from) * factor, fixed + (to - fixed) * factor);
  }

  _setCurves(always) {
    const [from, to] = this.range;
    const windows = (this.timeline.length * (to - from)) / this.duration_s;
    const points = Math.max(1, this.width / POINT_PX);
    const together = 2 ** Math.max(0, Math.ceil(Math.log2(windows / points)));
    if (!always && together === this.together) return;
    this.together = together;
    this.plot.setData(curves(this.timeline, this.names, together), false);
    this.coarse.hidden = together === 1;
    this.coarse.textContent = `Each point is the mean of ${together} windows: zoom in for more.`;
    this.plot.redraw();
  }

  _toggle(name, button) {
    const isShown = this.hidden.delete(name) || !this.hidden.add(name);
    button.setAttribute("aria-pressed", String(isShown));
    this.plot.setSeries(this.names.indexOf(name) + 1, { show: isShown });
  }

  /** Lets a curve stand out; without a name those that are the highest for some time. */
  _emphasise(name) {
    const leads = name ? [name] : this._leaders;
    this.names.forEach((other, number) => {
      const series = this.plot.series[number + 1];
      series.width = leads.includes(other) ? 2.5 : 1.25;
      series.alpha = leads.includes(other) ? 1 : name ? 0.3 : 0.65;
    });
    this.plot.redraw(false);
  }

  get _leaders() {
    if (!this.areCategories) return this.names; // attributes do not compete
    const known = this.timeline.filter((window_) => window_.modality);
    const first = known.map((window_) => ranked(window_)[0][0]);
    return this.names.filter(
      (name) => first.filter((other) => other === name).length >= OFTEN * known.length,
    );
  }

  // --- drawing --------------------------------------------------------------------------------

  get width() {
    return Math.max(1, this.tracks.clientWidth - this.gutter - RIGHT_PX);
  }

  /** Place of a time, in pixels from where the curves begin. */
  x(time_s) {
    const [from, to] = this.range;
    return ((time_s - from) / (to - from)) * this.width;
  }

  _fit() {
    const width = this.tracks.clientWidth;
    if (!width) return;
    this.gutter = Number.parseFloat(getComputedStyle(this.tracks).getPropertyValue("--gutter"));
    this._setCurves(true);
    this._emphasise(null);
    this._draw();
    // The last of them, since a redraw would keep the old width of the axis.
    this.plot.setSize({ width, height: width < 600 ? 190 : 250 });
    this._tellTime(this.playback.time_s);
  }

  _draw() {
    this.plot.redraw();
    for (const { canvas, spans: found, seen: visible } of this.rows)
      drawStrip(canvas, found, visible, (time_s) => this.x(time_s), this.palette);
    const [from, to] = this.range;
    const isWhole = to - from >= this.duration_s - 1e-6;
    this.zoomOut.disabled = this.zoomAll.disabled = isWhole;
    this.zoomIn.disabled = to - from <= SHORTEST_S + 1e-6;
  }

  _drawBands({ ctx: pen, bbox }) {
    const ratio = bbox.width / this.width;
    pen.save();
    pen.beginPath();
    pen.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    pen.clip();
    const place = ({ start_s, end_s }) => {
      const [left, right] = [this.x(start_s) * ratio, this.x(end_s) * ratio];
      return [bbox.left + left, bbox.top, right - left, bbox.height];
    };
    pen.fillStyle = resolved("--unheard");
    for (const gap of this.unheard) pen.fillRect(...place(gap));
    pen.strokeStyle = resolved("--unseen");
    pen.lineWidth = 1.5 * ratio;
    for (const gap of this.unseen) hatch(pen, ...place(gap), 7 * ratio, 1);
    pen.restore();
  }

  // --- time -----------------------------------------------------------------------------------

  _watch() {
    this.sizes = new ResizeObserver(() => this._fit());
    this.sizes.observe(this.tracks);
    onTheme(() => this._draw(), this.ending.signal);
    this.playback.onTime((time_s) => this._tellTime(time_s));
    steer(this);
  }

  _tellTime(time_s) {
    const [from, to] = this.range;
    if (this.playback.isPlaying && to - from < this.duration_s && (time_s > to || time_s < from))
      return this.show(time_s, time_s + to - from);
    const x = this.x(time_s);
    this.playhead.hidden = !(x >= -1 && x <= this.width + 1);
    this.playhead.style.transform = `translateX(${this.gutter + x}px)`;
    const now = windowAt(this.timeline, time_s);
    this.tracks.setAttribute("aria-valuenow", time_s.toFixed(1));
    this.tracks.setAttribute(
      "aria-valuetext",
      `${clock(time_s, true)}, ${now ? said(now) : "nothing known"}`,
    );
    for (const [name, value] of this.keys) {
      const known = now ? valuesOf(now)[name] : undefined;
      value.textContent =
        known === undefined ? "–" : this.areCategories ? percent(known) : decimal(known);
    }
    return undefined;
  }

  /** Goes to a time, and shows it. */
  go(time_s) {
    const [from, to] = this.range;
    this.playback.seek(time_s);
    if (time_s < from || time_s > to) this.show(time_s - (to - from) / 2, time_s + (to - from) / 2);
  }

  /** The time under a pointer. */
  timeAt(event) {
    const x = event.clientX - this.tracks.getBoundingClientRect().left - this.gutter;
    const [from, to] = this.range;
    return Math.min(Math.max(from + (x / this.width) * (to - from), from), to);
  }
}
