/** A clip over time: curves, sentences and people, in step with the playback. */

import uPlot from "./vendor/uPlot/uPlot.esm.js";
import { BARE, axes } from "./axes.js";
import { onTheme, resolved } from "./colours.js";
import { h, icon } from "./dom.js";
import { curves, gaps, seen, spans, valuesOf, windowAt } from "./series.js";
import { drawStrip, hatch } from "./strips.js";
import { clock, decimal, madeFrom, named, percent, ranked, said } from "./words.js";

/** Between the right end of the rows and of the page. */
const RIGHT_PX = 14;
/** A point of a curve for so many pixels at most. */
const POINT_PX = 3;
/** As far as one can zoom in. */
const SHORTEST_S = 4;
/** A curve stands out that is the highest for at least such a share of the time. */
const OFTEN = 0.1;

/** Rows with one axis of time. */
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
    this.pointer = h("div", { class: "pointer", hidden: true });
    this.tip = h("div", { class: "tip", hidden: true });
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
      this.pointer,
    );
    this.element = h(
      "section",
      { class: "card timeline", "aria-label": "Over time" },
      h("div", { class: "bar" }, h("h2", {}, "Over time"), this._zooming()),
      this._choosing(faces),
      this._legend(),
      h("div", { class: "stage-of-tracks" }, this.tracks, this.tip),
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
    const points = Math.max(1, this._width / POINT_PX);
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

  get _width() {
    return Math.max(1, this.tracks.clientWidth - this.gutter - RIGHT_PX);
  }

  _x(time_s) {
    const [from, to] = this.range;
    return ((time_s - from) / (to - from)) * this._width;
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
      drawStrip(canvas, found, visible, (time_s) => this._x(time_s), this.palette);
    const [from, to] = this.range;
    const isWhole = to - from >= this.duration_s - 1e-6;
    this.zoomOut.disabled = this.zoomAll.disabled = isWhole;
    this.zoomIn.disabled = to - from <= SHORTEST_S + 1e-6;
  }

  _drawBands({ ctx: pen, bbox }) {
    const ratio = bbox.width / this._width;
    pen.save();
    pen.beginPath();
    pen.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    pen.clip();
    const place = ({ start_s, end_s }) => {
      const [left, right] = [this._x(start_s) * ratio, this._x(end_s) * ratio];
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
    const { signal } = this.ending;
    const { tracks } = this;
    this.sizes = new ResizeObserver(() => this._fit());
    this.sizes.observe(tracks);
    onTheme(() => this._draw(), signal);
    this.playback.onTime((time_s) => this._tellTime(time_s));
    tracks.addEventListener("keydown", (event) => this._onKey(event));
    tracks.addEventListener("pointerdown", (event) => this._onPress(event));
    tracks.addEventListener("pointermove", (event) => this._onMove(event));
    tracks.addEventListener("pointerleave", () => this._point(null));
    tracks.addEventListener("wheel", (event) => this._onWheel(event), { passive: false });
  }

  _tellTime(time_s) {
    const [from, to] = this.range;
    if (this.playback.isPlaying && to - from < this.duration_s && (time_s > to || time_s < from))
      return this.show(time_s, time_s + to - from);
    const x = this._x(time_s);
    this.playhead.hidden = !(x >= -1 && x <= this._width + 1);
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

  _timeAt(event) {
    const x = event.clientX - this.tracks.getBoundingClientRect().left - this.gutter;
    const [from, to] = this.range;
    return Math.min(Math.max(from + (x / this._width) * (to - from), from), to);
  }

  _onKey(event) {
    const step = event.shiftKey ? 5 : 0.5;
    const now = this.playback.time_s;
    const run = {
      ArrowLeft: () => this._go(now - step),
      ArrowDown: () => this._go(now - step),
      ArrowRight: () => this._go(now + step),
      ArrowUp: () => this._go(now + step),
      PageDown: () => this._go(now - 10),
      PageUp: () => this._go(now + 10),
      Home: () => this._go(0),
      End: () => this._go(this.duration_s),
      " ": () => this.playback.toggle(),
      "+": () => this.zoom(0.5),
      "-": () => this.zoom(2),
    }[event.key];
    if (!run || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    run();
  }

  /** Goes to a time, and shows it. */
  _go(time_s) {
    const [from, to] = this.range;
    this.playback.seek(time_s);
    if (time_s < from || time_s > to) this.show(time_s - (to - from) / 2, time_s + (to - from) / 2);
  }

  _onPress(event) {
    if (event.button !== 0) return;
    const time_s = this._timeAt(event);
    const row = this.rows.find(({ canvas }) => canvas === event.target);
    const sentence =
      row && !row.person && row.spans.find((s) => s.start_s <= time_s && time_s <= s.end_s);
    this.playback.seek(sentence ? sentence.start_s : time_s);
    if (sentence) this.playback.play();
    else this.tracks.setPointerCapture(event.pointerId);
  }

  _onMove(event) {
    const time_s = this._timeAt(event);
    if (this.tracks.hasPointerCapture(event.pointerId)) this.playback.seek(time_s);
    this._point(time_s);
  }

  _onWheel(event) {
    const [from, to] = this.range;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.zoom(Math.exp(event.deltaY * 0.004), this._timeAt(event));
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && to - from < this.duration_s) {
      event.preventDefault();
      const moved = (event.deltaX / this._width) * (to - from);
      this.show(from + moved, to + moved);
    }
  }

  /** Tells the values at a time beside the pointer; hides them without a time. */
  _point(time_s) {
    this.pointer.hidden = this.tip.hidden = time_s === null;
    if (time_s === null) return;
    const x = this.gutter + this._x(time_s);
    this.pointer.style.transform = `translateX(${x}px)`;
    const now = windowAt(this.timeline, time_s);
    const value = this.areCategories ? percent : decimal;
    const lines = ranked(now)
      .slice(0, 4)
      .map(([name, share]) =>
        this.palette.tint(
          h("li", {}, h("span", { class: "swatch" }), named(name), h("b", {}, value(share))),
          name,
        ),
      );
    const others = this.rows
      .filter(({ person }) => person)
      .map(({ name, person }) =>
        h("li", { class: "muted" }, `${name}: ${said(windowAt(person.timeline, time_s))}`),
      );
    const silent = this.unheard.some((gap) => gap.start_s <= time_s && time_s < gap.end_s);
    this.tip.replaceChildren(
      h("p", {}, h("strong", {}, clock(time_s, true)), silent ? " · nobody speaks" : ""),
      h(
        "ul",
        {},
        lines.length ? lines : h("li", { class: "muted" }, "Nothing to go by"),
        others.slice(0, 6),
      ),
    );
    const flips = x > this.tracks.clientWidth / 2;
    this.tip.style.transform = `translateX(${x + (flips ? -12 : 12)}px) ${flips ? "translateX(-100%)" : ""}`;
  }
}
