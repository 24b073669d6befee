/** What is said at which time: pure functions of the parts of a prediction. */

/** A face moves in a straight line between places up to so far apart. */
const LONGEST_STEP_S = 0.5;
/** For so long a face stays where it was seen last. */
const SHOWN_S = 0.1;

/** Index of the first item whose key is at least the value. */
export function bisect(items, value, key) {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (key(items[middle]) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

const centre = (window_) => (window_.start_s + window_.end_s) / 2;

/** The window that says most of a time: with the nearest centre of those it lies in; or null. */
export function windowAt(timeline, time_s) {
  const after = bisect(timeline, time_s, centre);
  let best = null;
  for (const window_ of timeline.slice(Math.max(0, after - 1), after + 1)) {
    const inside = window_.start_s <= time_s && time_s <= window_.end_s;
    const nearer = !best || Math.abs(centre(window_) - time_s) < Math.abs(centre(best) - time_s);
    if (inside && nearer) best = window_;
  }
  return best && best.modality ? best : null;
}

/**
 * Labels over time: neighbouring windows with one label are one span.
 *
 * @returns {{start_s: number, end_s: number, label: ?string, confidence: ?number}[]}
 */
export function spans(timeline) {
  const found = [];
  timeline.forEach((window_, number) => {
    if (!window_.modality) return;
    const [before, after] = [timeline[number - 1], timeline[number + 1]];
    const left = before ? (centre(before) + centre(window_)) / 2 : -Infinity;
    const right = after ? (centre(window_) + centre(after)) / 2 : Infinity;
    const start_s = Math.max(window_.start_s, left);
    const end_s = Math.min(window_.end_s, right);
    const last = found.at(-1);
    if (last && last.label === window_.label && start_s - last.end_s < 0.01) {
      last.end_s = end_s;
      last.confidence = Math.max(last.confidence, window_.confidence);
    } else {
      found.push({ start_s, end_s, label: window_.label, confidence: window_.confidence });
    }
  });
  return found;
}

/** What lies between spans, from 0 to the end, if it is longer than `least_s`. */
export function gaps(covered, duration_s, least_s = 0) {
  const found = [];
  let reached = 0;
  for (const { start_s, end_s } of [...covered].sort((a, b) => a.start_s - b.start_s)) {
    if (start_s - reached > least_s) found.push({ start_s: reached, end_s: start_s });
    reached = Math.max(reached, end_s);
  }
  if (duration_s - reached > least_s) found.push({ start_s: reached, end_s: duration_s });
  return found;
}

/** When a face is in sight. */
export function seen(track) {
  const found = [];
  for (const [time_s] of track) {
    const last = found.at(-1);
    if (last && time_s - last.until_s <= LONGEST_STEP_S) last.until_s = time_s;
    else found.push({ start_s: time_s, until_s: time_s });
  }
  return found.map(({ start_s, until_s }) => ({ start_s, end_s: until_s + SHOWN_S }));
}

/** Where a face is at a time, `[x0, y0, x1, y1]` in shares of the picture; null out of sight. */
export function boxAt(track, time_s) {
  const after = bisect(track, time_s, ([t]) => t);
  const [before, following] = [track[after - 1], track[after]];
  if (before && following && following[0] - before[0] <= LONGEST_STEP_S) {
    const share = (time_s - before[0]) / (following[0] - before[0]);
    return before[1].map((value, side) => value + share * (following[1][side] - value));
  }
  if (following && following[0] <= time_s) return following[1];
  return before && time_s - before[0] < SHOWN_S ? before[1] : null;
}

/** Values of a window by name: its probabilities, or its attributes. */
export const valuesOf = (window_) =>
  Object.keys(window_.probabilities).length ? window_.probabilities : window_.attributes;

/**
 * Curves for uPlot, in which each point is the mean of so many windows.
 *
 * @param {object[]} timeline
 * @param {string[]} names
 * @param {number} together Windows to a point, 1 or more.
 * @returns {Array<Array<?number>>} Times with both ends, then the values of each name; null where there are none.
 */
export function curves(timeline, names, together = 1) {
  const [times, values] = [[], names.map(() => [])];
  for (let first = 0; first < timeline.length; first += together) {
    const group = timeline.slice(first, first + together);
    const known = group.filter((window_) => window_.modality);
    times.push(group.reduce((sum, window_) => sum + centre(window_), 0) / group.length);
    names.forEach((name, number) => {
      const sum = known.reduce((total, window_) => total + (valuesOf(window_)[name] ?? 0), 0);
      values[number].push(known.length ? sum / known.length : null);
    });
  }
  // A window says something from its beginning to its end: so do the first and the last.
  if (timeline.length) {
    times.unshift(timeline[0].start_s);
    times.push(timeline.at(-1).end_s);
    for (const column of values) {
      column.unshift(column[0]);
      column.push(column.at(-1));
    }
  }
  return [times, ...values];
}
