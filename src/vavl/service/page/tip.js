/** The values at a time, beside the pointer. */

import { h } from "./dom.js";
import { windowAt } from "./series.js";
import { clock, decimal, named, percent, ranked, said } from "./words.js";

/** So many categories and people have room. */
const [CATEGORIES, PEOPLE] = [4, 6];
/** Between the pointer and the card. */
const AWAY_PX = 12;

export class Tip {
  /** @param {import("./charts.js").Timeline} timeline */
  constructor(timeline) {
    this.timeline = timeline;
    this.line = h("div", { class: "pointer", hidden: true });
    this.element = h("div", { class: "tip", hidden: true });
  }

  hide() {
    this.line.hidden = this.element.hidden = true;
  }

  show(time_s) {
    const { timeline } = this;
    const x = timeline.gutter + timeline.x(time_s);
    const flips = x > timeline.tracks.clientWidth / 2;
    const place = flips
      ? `translateX(${x - AWAY_PX}px) translateX(-100%)`
      : `translateX(${x + AWAY_PX}px)`;
    this.line.style.transform = `translateX(${x}px)`;
    this.element.style.transform = place;
    this.element.replaceChildren(...this._lines(time_s));
    this.line.hidden = this.element.hidden = false;
  }

  _lines(time_s) {
    const { timeline, palette, areCategories, rows, unheard } = this.timeline;
    const value = areCategories ? percent : decimal;
    const values = ranked(windowAt(timeline, time_s))
      .slice(0, CATEGORIES)
      .map(([name, share]) =>
        palette.tint(
          h("li", {}, h("span", { class: "swatch" }), named(name), h("b", {}, value(share))),
          name,
        ),
      );
    const people = rows
      .filter(({ person }) => person)
      .slice(0, PEOPLE)
      .map(({ name, person }) =>
        h("li", { class: "muted" }, `${name}: ${said(windowAt(person.timeline, time_s))}`),
      );
    const silent = unheard.some((gap) => gap.start_s <= time_s && time_s < gap.end_s);
    return [
      h("p", {}, h("strong", {}, clock(time_s, true)), silent ? " · nobody speaks" : ""),
      h("ul", {}, values.length ? values : h("li", { class: "muted" }, "Nothing to go by"), people),
    ];
  }
}
