/** Probabilities or attributes as bars. */

import { h } from "./dom.js";
import { decimal, named, percent } from "./words.js";

/**
 * A list with a bar for each name.
 *
 * @param {string[]} names From top to bottom.
 * @param {import("./colours.js").Palette} palette
 * @param {boolean} areCategories Shares in percent, else values in [0, 1].
 * @returns {{element: HTMLElement, show: (values: Object<string, number>) => void}}
 */
export function bars(names, palette, areCategories) {
  const rows = new Map();
  const element = h("ul", { class: "bars" });
  for (const name of names) {
    const fill = h("span", { class: "fill" });
    const value = h("span", { class: "value" });
    const row = h(
      "li",
      {},
      h("span", { class: "name" }, named(name)),
      h("span", { class: "rail", "aria-hidden": "true" }, fill),
      value,
    );
    rows.set(name, { fill, value, row });
    element.append(palette.tint(row, name));
  }
  return {
    element,
    show(values) {
      const largest = Math.max(...Object.values(values));
      for (const [name, { fill, value, row }] of rows) {
        const share = values[name];
        fill.style.transform = `translateX(${100 * ((share ?? 0) - 1)}%)`;
        value.textContent = share === undefined ? "–" : (areCategories ? percent : decimal)(share);
        row.classList.toggle("first", areCategories && share === largest);
      }
    },
  };
}
