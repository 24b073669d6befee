/** The answer for one clip: what is said, the video with its faces, charts, files to keep. */

import { inFormat } from "./api.js";
import { bars } from "./bars.js";
import { Timeline } from "./charts.js";
import { Palette, onTheme } from "./colours.js";
import { h, icon, save } from "./dom.js";
import { drawFaces } from "./overlay.js";
import { pictureOf } from "./picture.js";
import { Playback } from "./player.js";
import { boxAt, valuesOf, windowAt } from "./series.js";
import { overTime, sentences } from "./tables.js";
import { thumbnails } from "./thumbnails.js";
import { count, lasting, listed, madeFrom, named, percent, said, sentence } from "./words.js";

/** So many bars at first. */
const BARS = 7;

/**
 * Shows the answer for a clip.
 *
 * @param {{file: File, id: string, prediction: object}} clip
 * @param {object} model As the service describes it.
 * @returns {{element: HTMLElement, end: () => void}}
 */
export function result(clip, model) {
  const { prediction } = clip;
  const palette = new Palette([...model.categories, ...model.attributes]);
  const ending = new AbortController();
  const duration_s = Math.max(
    prediction.duration_s ?? 0,
    prediction.timeline.at(-1)?.end_s ?? 0,
    0.1,
  );
  const hasPicture = prediction.face_share !== null;
  const playback = new Playback(clip.file, hasPicture, duration_s);
  const { faces, end: endThumbnails } = thumbnails(playback.url, prediction.people);
  const timeline = new Timeline(prediction, palette, playback, { hears: clip.hasSegments, faces });
  const element = h(
    "article",
    { class: "result", "aria-label": `Answer for ${prediction.name}` },
    h(
      "div",
      { class: hasPicture ? "head" : "head sound" },
      answer(clip, palette, model),
      stage(playback, prediction, palette, hasPicture, ending.signal),
    ),
    timeline.element,
    clip.hasSegments && prediction.segments.length
      ? sentences(prediction.segments, palette, playback)
      : null,
    overTime(prediction, timeline.names),
    downloads(clip, timeline, palette),
  );
  return {
    element,
    end() {
      ending.abort();
      endThumbnails();
      timeline.end();
      playback.end();
    },
  };
}

// --- the whole clip ---------------------------------------------------------------------------

function answer({ prediction }, palette, model) {
  const areCategories = Object.keys(prediction.probabilities).length > 0;
  const values = valuesOf(prediction);
  const order = areCategories
    ? Object.keys(values)
        .sort((a, b) => values[b] - values[a])
        .slice(0, BARS)
    : Object.keys(values);
  const { element, show } = bars(order, palette, areCategories);
  show(values);
  const facts = [
    prediction.duration_s && lasting(prediction.duration_s),
    prediction.people.length > 0 && count(prediction.people.length, "person", "people"),
    prediction.segments.length > 0 && count(prediction.segments.length, "sentence", "sentences"),
  ].filter(Boolean);
  const title = prediction.label ? named(prediction.label) : sentence(listed(order), "");
  return h(
    "section",
    { class: "card answer", "aria-label": "The whole clip" },
    h(
      "p",
      { class: "eyebrow" },
      h("span", { class: "file-name" }, prediction.name),
      ` · ${facts.join(" · ")}`,
    ),
    palette.tint(
      h("h1", { class: prediction.label ? "label" : "label plain" }, title),
      prediction.label ?? "",
    ),
    h("p", { class: "lead" }, ...lead(prediction)),
    prediction.label === "unsure" ? unsure(prediction, model) : null,
    element,
    prediction.warnings.length
      ? h(
          "ul",
          { class: "warnings", "aria-label": "Notes on this clip" },
          prediction.warnings.map((text) =>
            h("li", {}, icon("info"), h("span", {}, sentence(text))),
          ),
        )
      : null,
  );
}

function lead(prediction) {
  const from = `from ${madeFrom(prediction.modality)}`;
  if (prediction.confidence === null) return [`Estimated ${from}, between 0 and 1.`];
  if (prediction.label === "unsure") return [`No clear answer ${from}.`];
  return [h("strong", {}, percent(prediction.confidence)), ` confidence, ${from}.`];
}

function unsure(prediction, model) {
  const [name] = Object.entries(prediction.probabilities).sort((a, b) => b[1] - a[1])[0];
  const below = model.unsure_below ? ` (${percent(model.unsure_below)})` : "";
  return h(
    "p",
    { class: "note" },
    `The most probable is ${named(name).toLowerCase()}, with ${percent(prediction.confidence)}. ` +
      `That is less than this model wants before it names one${below}, so it says that it is unsure.`,
  );
}

// --- the picture ------------------------------------------------------------------------------

function stage(playback, prediction, palette, hasPicture, signal) {
  const { element: media } = playback;
  const sorry = h("p", { class: "note", hidden: true, role: "status" });
  if (!hasPicture) {
    onBroken(
      playback,
      sorry,
      "This browser cannot play the sound of this file. The charts work all the same.",
    );
    return h("section", { class: "card stage sound", "aria-label": "Sound" }, media, sorry);
  }
  const canvas = h("canvas", { "aria-hidden": "true" });
  const frame = h("div", { class: "frame" }, media, canvas);
  const shown = h("input", { type: "checkbox", checked: true, onchange: draw });
  const whole = h(
    "button",
    {
      class: "quiet small",
      type: "button",
      onclick: () =>
        document.fullscreenElement ? document.exitFullscreen() : frame.requestFullscreen(),
    },
    icon("full"),
    "Full screen",
  );
  let aspect = 16 / 9;
  media.addEventListener("loadedmetadata", () => {
    if (!media.videoWidth) return giveUp();
    aspect = media.videoWidth / media.videoHeight;
    frame.style.setProperty("--aspect", aspect);
    return draw();
  });
  const giveUp = onBroken(
    playback,
    sorry,
    "This browser cannot show the picture of this file. The charts work all the same.",
    () => {
      frame.hidden = true;
      tools.hidden = true;
    },
  );
  function draw() {
    const time_s = playback.time_s;
    const found = shown.checked ? prediction.people : [];
    drawFaces(
      canvas,
      aspect,
      found.flatMap((person) => framed(person, time_s, palette, prediction.people.length > 1)),
    );
  }
  playback.onTime(draw);
  const sizes = new ResizeObserver(draw);
  sizes.observe(frame);
  signal.addEventListener("abort", () => sizes.disconnect());
  onTheme(draw, signal);
  const tools = h(
    "div",
    { class: "tools" },
    prediction.people.length
      ? h(
          "label",
          { class: "switch" },
          shown,
          h("span", {}, "Boxes", h("span", { class: "wide" }, ": what each face alone says")),
        )
      : h("span", {}),
    whole,
  );
  return h("section", { class: "card stage", "aria-label": "Video" }, frame, sorry, tools);
}

/** A person's box and label at a time; nothing when the face is out of sight. */
function framed(person, time_s, palette, isNumbered) {
  const box = boxAt(person.track, time_s);
  if (!box) return [];
  const now = windowAt(person.timeline, time_s);
  const text = (isNumbered ? `${person.number}  ` : "") + said(now).replaceAll(", ", "\n");
  return [{ box, text, colour: palette.of(now?.label ?? "unsure") }];
}

/** Says that a file cannot be played; returns what does so at once. */
function onBroken(playback, sorry, text, more = () => {}) {
  const giveUp = () => {
    sorry.textContent = text;
    sorry.hidden = false;
    playback.giveUp();
    if (playback.element.tagName === "AUDIO") playback.element.hidden = true;
    more();
  };
  playback.element.addEventListener("error", giveUp);
  return giveUp;
}

// --- to keep ----------------------------------------------------------------------------------

function downloads(clip, timeline, palette) {
  const stem = clip.prediction.name.replace(/\.[^.]*$/, "") || "clip";
  const problem = h("p", { class: "note", role: "alert", hidden: true });
  const button = (name, suffix, make, missing = "") =>
    h(
      "button",
      {
        type: "button",
        class: "soft",
        disabled: Boolean(missing),
        title: missing || null,
        async onclick() {
          problem.hidden = true;
          try {
            save(await make(), `${stem}.${suffix}`);
          } catch (error) {
            problem.textContent = `${error.message} ${error.remedy ?? ""}`;
            problem.hidden = false;
          }
        },
      },
      icon("download"),
      name,
    );
  const text = (value) => new Blob([JSON.stringify(value, null, 2)], { type: "application/json" });
  const missing = clip.prediction.segments.length ? "" : "No sentences were found";
  return h(
    "section",
    { class: "card downloads", "aria-label": "Keep the answer" },
    h("h2", {}, "Keep it"),
    h(
      "div",
      { class: "buttons" },
      button("JSON", "json", () => text(clip.prediction)),
      button("CSV", "csv", () => inFormat(clip.id, "csv")),
      button("SRT", "srt", () => inFormat(clip.id, "srt"), missing),
      button("WebVTT", "vtt", () => inFormat(clip.id, "vtt"), missing),
      button("PNG", "png", () => pictureOf(clip.prediction, timeline, palette)),
    ),
    problem,
  );
}
