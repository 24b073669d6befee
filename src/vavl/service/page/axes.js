/** What the axes of all charts look like. */

import { resolved } from "./colours.js";
import { percent } from "./words.js";

/** Steps of time that people count in, in seconds. */
const STEPS_S = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400];

/**
 * @param {() => number} gutter Width left of the curves, in pixels.
 * @param {boolean} areCategories Values are shares in percent, else in [0, 1].
 * @param {(time_s: number) => string} time In words.
 */
export function axes(gutter, areCategories, time) {
  const look = {
    stroke: () => resolved("--muted"),
    font: `12px ${getComputedStyle(document.body).fontFamily}`,
    grid: { stroke: () => resolved("--line"), width: 1 },
    ticks: { show: false },
  };
  const value = (v) => ((v * 2) % 1 ? "" : areCategories ? percent(v) : v.toFixed(1));
  return [
    { ...look, space: 70, incrs: STEPS_S, size: 32, gap: 9, values: (_, times) => times.map(time) },
    {
      ...look,
      size: gutter,
      gap: 8,
      splits: [0, 0.25, 0.5, 0.75, 1],
      values: (_, values) => values.map(value),
    },
  ];
}

/** A plot with nothing on it but curves and axes. */
export const BARE = { legend: { show: false }, cursor: { show: false }, select: { show: false } };
