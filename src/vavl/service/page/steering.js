/** Keys, mouse and fingers move along a timeline. */

/** Steps of the keys, in seconds. */
const [SMALL_S, MEDIUM_S, LARGE_S] = [0.5, 5, 10];

/** @param {import("./charts.js").Timeline} timeline */
export function steer(timeline) {
  const { tracks } = timeline;
  tracks.addEventListener("keydown", (event) => onKey(timeline, event));
  tracks.addEventListener("pointerdown", (event) => onPress(timeline, event));
  tracks.addEventListener("pointermove", (event) => onMove(timeline, event));
  tracks.addEventListener("pointerleave", () => timeline.tip.hide());
  tracks.addEventListener("wheel", (event) => onWheel(timeline, event), { passive: false });
}

function onKey(timeline, event) {
  const { playback } = timeline;
  const now_s = playback.time_s;
  const step_s = event.shiftKey ? MEDIUM_S : SMALL_S;
  const run = {
    ArrowLeft: () => timeline.go(now_s - step_s),
    ArrowDown: () => timeline.go(now_s - step_s),
    ArrowRight: () => timeline.go(now_s + step_s),
    ArrowUp: () => timeline.go(now_s + step_s),
    PageDown: () => timeline.go(now_s - LARGE_S),
    PageUp: () => timeline.go(now_s + LARGE_S),
    Home: () => timeline.go(0),
    End: () => timeline.go(timeline.duration_s),
    " ": () => playback.toggle(),
    "+": () => timeline.zoom(0.5),
    "-": () => timeline.zoom(2),
  }[event.key];
  if (!run || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  run();
}

/** A sentence is played from its beginning; everywhere else one goes to the time, and on. */
function onPress(timeline, event) {
  if (event.button !== 0) return;
  const { playback } = timeline;
  const time_s = timeline.timeAt(event);
  const row = timeline.rows.find(({ canvas }) => canvas === event.target);
  const sentence =
    row && !row.person && row.spans.find((s) => s.start_s <= time_s && time_s <= s.end_s);
  playback.seek(sentence ? sentence.start_s : time_s);
  if (sentence) playback.play();
  else timeline.tracks.setPointerCapture(event.pointerId);
}

function onMove(timeline, event) {
  const time_s = timeline.timeAt(event);
  if (timeline.tracks.hasPointerCapture(event.pointerId)) timeline.playback.seek(time_s);
  timeline.tip.show(time_s);
}

function onWheel(timeline, event) {
  const [from, to] = timeline.range;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    timeline.zoom(Math.exp(event.deltaY * 0.004), timeline.timeAt(event));
  } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && to - from < timeline.duration_s) {
    event.preventDefault();
    const moved = (event.deltaX / timeline.width) * (to - from);
    timeline.show(from + moved, to + moved);
  }
}
