/** What the charts show, as tables: to read, to hear, and to go to a place from. */

import { h, icon } from "./dom.js";
import { curves, windowAt } from "./series.js";
import { clock, decimal, lasting, madeFrom, named, percent, said } from "./words.js";

/** A table of more rows is made of means. */
const MOST_ROWS = 240;

/** Sentences, each of which can be heard. */
export function sentences(segments, palette, playback) {
  const hear = (segment) => {
    playback.seek(segment.start_s);
    playback.play();
  };
  const swatch = (name) => palette.tint(h("span", { class: "swatch" }), name);
  const answer = (segment) =>
    segment.label
      ? [
          swatch(segment.label),
          h("strong", {}, named(segment.label)),
          h("span", { class: "muted" }, percent(segment.confidence)),
        ]
      : Object.entries(segment.attributes).map(([name, value]) => [swatch(name), decimal(value)]);
  const button = (segment) =>
    h(
      "button",
      {
        type: "button",
        "aria-label": `Hear ${clock(segment.start_s, true)}: ${said(segment)}`,
        onclick: () => hear(segment),
      },
      icon("play"),
      h("span", { class: "when" }, clock(segment.start_s, true)),
      answer(segment).flat(),
      h("span", { class: "muted more" }, lasting(segment.end_s - segment.start_s)),
    );
  return h(
    "section",
    { class: "card", "aria-label": "Sentences" },
    h("h2", {}, "Sentence by sentence"),
    h(
      "ol",
      { class: "sentences" },
      segments.map((segment) => h("li", {}, button(segment))),
    ),
  );
}

/** The timeline as a table, made when it is opened. */
export function overTime(prediction, names) {
  const { timeline } = prediction;
  if (!timeline.length) return null;
  const details = h(
    "details",
    { class: "card" },
    h("summary", {}, "The same over time, as a table"),
  );
  details.addEventListener("toggle", () => details.append(table(prediction, names)), {
    once: true,
  });
  return details;
}

function table({ timeline, people, probabilities }, names) {
  const together = Math.ceil(timeline.length / MOST_ROWS);
  const [times, ...values] = curves(timeline, names, together).map((column) => column.slice(1, -1));
  const value = Object.keys(probabilities).length ? percent : decimal;
  const cell = (number) => h("td", {}, number === null ? "–" : value(number));
  const head = [
    "Time",
    "Answer",
    "From",
    ...names.map(named),
    ...people.map((person) => `Person ${person.number}`),
  ];
  const caption =
    together === 1
      ? "Windows of 2 seconds, one every half second; the time is that of their middle."
      : `Means of ${together} windows of 2 seconds; the answer is that in the middle.`;
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of the timeline" },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head.map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        times.map((time_s, row) => {
          const now = windowAt(timeline, time_s);
          return h(
            "tr",
            {},
            h("th", { scope: "row" }, clock(time_s, true)),
            h("td", {}, said(now)),
            h("td", {}, madeFrom(now?.modality)),
            values.map((column) => cell(column[row])),
            people.map((person) => h("td", {}, said(windowAt(person.timeline, time_s)))),
          );
        }),
      ),
    ),
  );
}
