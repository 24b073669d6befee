/** The view that says what the model is, how good, and what it is not for. */

import { getCard } from "./api.js";
import { Palette } from "./colours.js";
import { h } from "./dom.js";
import { named, plain, sentence } from "./words.js";

/** @param {HTMLElement} view @param {object} model */
export async function aboutView(view, model) {
  const palette = new Palette([...model.categories, ...model.attributes]);
  const chips = (names) =>
    h(
      "ul",
      { class: "chips" },
      names.map((name) =>
        palette.tint(h("li", {}, h("span", { class: "swatch" }), named(name)), name),
      ),
    );
  const takes = [model.hears && "the voice", model.sees && "faces"].filter(Boolean);
  const card = h(
    "div",
    { class: "card prose" },
    h("p", { class: "muted" }, "Loading the model card…"),
  );
  view.append(
    h(
      "div",
      { class: "intro" },
      h("h1", {}, "About the model"),
      h(
        "p",
        { class: "lead" },
        "What it was made from, how good it is, and what it must not be used for.",
      ),
    ),
    h(
      "div",
      { class: "model" },
      h(
        "dl",
        { class: "card about" },
        h("div", {}, h("dt", {}, "Name"), h("dd", {}, model.name)),
        h("div", {}, h("dt", {}, "Reads"), h("dd", {}, sentence(takes.join(" and "), ""))),
        model.categories.length
          ? h("div", {}, h("dt", {}, "Tells apart"), h("dd", {}, chips(model.categories)))
          : null,
        model.attributes.length
          ? h("div", {}, h("dt", {}, "Estimates"), h("dd", {}, chips(model.attributes)))
          : null,
        model.notice
          ? h("div", {}, h("dt", {}, "Licence"), h("dd", { class: "notice" }, plain(model.notice)))
          : null,
      ),
      card,
    ),
  );
  try {
    card.replaceChildren(...prose(await getCard()));
  } catch (error) {
    const text =
      error.status === 404
        ? "This model comes without a card: ask whoever trained it."
        : `${error.message} ${error.remedy ?? ""}`;
    card.replaceChildren(h("p", { class: "muted" }, text));
  }
}

/** Markup of a card as part of this page: below its headings, wide tables scroll, links work. */
function prose(markup) {
  const { body } = new DOMParser().parseFromString(markup, "text/html");
  for (const heading of [...body.querySelectorAll("h1, h2, h3, h4, h5")].reverse())
    rename(heading, `h${Number(heading.tagName[1]) + 1}`);
  for (const [number, table] of [...body.querySelectorAll("table")].entries()) {
    const head = table.querySelector("thead");
    const isEmpty = head && !head.textContent.trim();
    if (isEmpty) head.remove();
    for (const cell of head && !isEmpty ? head.querySelectorAll("th") : []) {
      if (cell.textContent.trim()) cell.setAttribute("scope", "col");
      else rename(cell, "td");
    }
    for (const row of table.querySelectorAll("tbody tr"))
      rename(row.cells[0], "th").setAttribute("scope", "row");
    const scroll = h("div", {
      class: "scroll",
      tabindex: 0,
      role: "region",
      "aria-label": `Table ${number + 1} of the card`,
    });
    table.replaceWith(scroll);
    scroll.append(table);
  }
  for (const link of body.querySelectorAll("a")) {
    // Files beside the card are not served.
    if (!/^https?:/.test(link.getAttribute("href") ?? "")) link.replaceWith(...link.childNodes);
    else Object.assign(link, { target: "_blank", rel: "noopener noreferrer" });
  }
  return [...body.childNodes].map((node) => document.adoptNode(node));
}

function rename(element, tag) {
  const other = h(tag, {}, [...element.childNodes]);
  element.replaceWith(other);
  return other;
}
