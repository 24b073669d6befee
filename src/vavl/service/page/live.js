/** The view of camera and microphone. */

import { bars } from "./bars.js";
import { Palette } from "./colours.js";
import { announce, h, icon } from "./dom.js";
import { drawFaces } from "./overlay.js";
import { Recent } from "./recent.js";
import { valuesOf } from "./series.js";
import { Pictures, Sound, refusal } from "./sources.js";
import { Stream } from "./stream.js";
import { machine, madeFrom, named, percent, said, sentence } from "./words.js";

/** A change of the answer is said aloud at most so often. */
const SPOKEN_EVERY_MS = 5000;
/** Without an answer for so long, the one on show is too old. */
const STALE_MS = 4000;
/** A place that was just given up may not be free at once: it is asked for again, for so long. */
const [AGAIN_MS, PATIENCE_MS] = [1000, 15_000];
/** Further behind, a machine that is too slow does not catch up: what waits is dropped. */
const FALLEN_BEHIND_S = 8;

export class LiveView {
  /** @param {HTMLElement} view @param {object} model */
  constructor(view, model) {
    this.model = model;
    this.names = model.categories.length ? model.categories : model.attributes;
    this.areCategories = model.categories.length > 0;
    this.palette = new Palette([...model.categories, ...model.attributes]);
    this.wanted = { audio: model.hears, video: model.sees };
    this.run = 0; // counts beginnings: what belongs to an earlier one is dropped
    this._build(view);
    this._show("idle");
  }

  _build(view) {
    const { hears, sees } = this.model;
    this.switches = {
      video: this._switch("video", "Camera", "camera", sees),
      audio: this._switch("audio", "Microphone", "microphone", hears),
    };
    this.idle = this._invitation();
    this.running = h(
      "div",
      { class: "result" },
      h("h1", { class: "unseen" }, "Live"),
      h("div", { class: "head" }, this._answer(), this._stage()),
    );
    this.recentPlace = h(
      "section",
      { class: "card", "aria-label": "The last minute" },
      h("h2", {}, "The last minute"),
    );
    this.running.append(this.recentPlace);
    view.append(this.idle, this.running);
  }

  /** What is there before it begins. */
  _invitation() {
    const { hears, sees } = this.model;
    const sources = [sees && "camera", hears && "microphone"].filter(Boolean).join(" and ");
    this.problem = h("p", { class: "note problem", role: "alert", hidden: true });
    this.startButton = h(
      "button",
      { type: "button", class: "main large", onclick: () => this.start() },
      icon("play"),
      h("span", {}, "Start"),
    );
    this.choices = h("div", { class: "choices" });
    const fact = (drawing, name, text) =>
      h("li", {}, icon(drawing), h("span", {}, h("strong", {}, name), text));
    return h(
      "div",
      { class: "invitation" },
      h("h1", {}, "Live"),
      h(
        "p",
        { class: "lead" },
        `Your ${sources}, read as you speak and look: a new answer every half second.`,
      ),
      this.startButton,
      this.choices,
      this.problem,
      h(
        "ul",
        { class: "facts" },
        hears && fact("microphone", "Sound", "The voice is read, not the words."),
        sees && fact("camera", "Picture", "The most prominent face is read."),
        fact("lock", "Private", `Nothing is kept, and nothing leaves ${machine}.`),
      ),
    );
  }

  _answer() {
    this.label = h("p", { class: "label" });
    this.lead = h("p", { class: "lead" });
    this.latency = h("span", { class: "pill" });
    this.bars = bars(this.names, this.palette, this.areCategories);
    return h(
      "section",
      { class: "card answer now", "aria-label": "The answer now" },
      this.latency,
      this.label,
      this.lead,
      this.bars.element,
    );
  }

  _stage() {
    this.video = h("video", { playsinline: true, "aria-label": "What the camera sees" });
    this.video.muted = true;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    const nothing = h("p", { class: "nothing" }, icon("microphone"), "The sound goes on.");
    this.frame = h("div", { class: "frame live" }, this.video, this.canvas, nothing);
    const stop = h(
      "button",
      { type: "button", class: "soft", onclick: () => this.stop(true) },
      icon("stop"),
      "Stop",
    );
    this.tools = h("div", { class: "tools" }, stop);
    return h(
      "section",
      { class: "card stage", "aria-label": "Camera and microphone" },
      this.frame,
      this.tools,
    );
  }

  _switch(source, name, drawing, isUsed) {
    const input = h("input", {
      type: "checkbox",
      role: "switch",
      checked: isUsed,
      onchange: () => this._turn(source, input.checked),
    });
    const text = isUsed ? name : `${name} (not used by this model)`;
    return {
      input,
      element: h("label", { class: "switch" }, input, icon(drawing), h("span", {}, text)),
    };
  }

  _show(state) {
    const why = refusal();
    const isRunning = state === "running";
    this.idle.hidden = isRunning;
    this.running.hidden = !isRunning;
    this.isStarting = state === "starting";
    const { video, audio } = this.switches;
    const place = isRunning ? this.tools : this.choices;
    if (video.element.parentNode !== place) place.prepend(video.element, audio.element);
    video.input.disabled = this.isStarting || !this.model.sees;
    audio.input.disabled = this.isStarting || !this.model.hears;
    this.startButton.disabled =
      this.isStarting || Boolean(why) || !(this.wanted.audio || this.wanted.video);
    this.startButton.lastChild.textContent = this.isStarting ? "Starting…" : "Start";
    if (why) this._tell(why);
  }

  _tell(text) {
    this.problem.hidden = !text;
    this.problem.textContent = text;
  }

  // --- beginning and end ----------------------------------------------------------------------

  /** Opens what is switched on, and begins. */
  async start() {
    const run = ++this.run;
    this._tell("");
    this._show("starting");
    try {
      await this._open();
    } catch (error) {
      if (run === this.run) this._fail(error);
      return;
    }
    if (run !== this.run) return this._close();
    this.began_ms = performance.now();
    this.patient_until_ms = 0;
    this.recent = new Recent(this.names, this.palette, this.areCategories);
    this.recentPlace.append(this.recent.element);
    this._show("running");
    this._wait("Waiting for the model");
    this._connect();
    this.timer = setInterval(() => this._tick(), 250);
    announce("Live has started");
    this.switches.video.input.focus({ preventScroll: true });
  }

  /** @param {boolean} [byHand] */
  stop(byHand = false) {
    this.run++;
    clearInterval(this.timer);
    void this.stream?.end();
    this.stream = null;
    this._close();
    this.recent?.end();
    this.recent?.element.remove();
    this.recent = null;
    this._show("idle");
    if (!byHand) return;
    announce("Live has stopped");
    this.startButton.focus();
  }

  _fail(error) {
    this.stop();
    const remedy = error.remedy ? ` ${error.remedy}` : "";
    this._tell(`${sentence(error.message)}${remedy}`);
    this.startButton.focus();
  }

  async _open() {
    const wanted = { ...this.wanted };
    // One after the other: browsers ask one question at a time.
    if (wanted.audio && !this.sound) this.sound = await Sound.open();
    if (wanted.video && !this.pictures) this.pictures = await Pictures.open(this.video);
  }

  _close() {
    for (const source of [this.sound, this.silenced, this.pictures]) source?.end();
    this.sound = this.silenced = this.pictures = null;
    this.last_ms = 0;
    drawFaces(this.canvas, 1, []);
  }

  get isRunning() {
    return !this.running.hidden || this.isStarting;
  }

  get _now_s() {
    return (performance.now() - this.began_ms) / 1000;
  }

  // --- the stream -----------------------------------------------------------------------------

  _connect() {
    const { sound, pictures } = this;
    const run = this.run;
    let base_s = 0;
    const stream = new Stream(
      {
        audio: Boolean(sound),
        video: Boolean(pictures),
        sampling_rate_hz: sound?.samplingRate_hz ?? 48_000,
      },
      {
        ready: async () => {
          const started_ms = performance.now();
          await sound?.begin((samples) => stream.sound(samples));
          if (run !== this.run || stream !== this.stream) return;
          base_s = this._now_s - (sound ? sound.time_s : 0);
          const clock = sound ? () => sound.time_s : () => (performance.now() - started_ms) / 1000;
          if (pictures) {
            pictures.onturn = () => this._reconnect();
            pictures.begin(
              clock,
              (time_s, jpeg) => stream.picture(time_s, jpeg),
              () => stream.hasRoom,
            );
          }
          this._wait("Listening and looking");
        },
        window: (message) => {
          if (stream === this.stream) this._take(message, base_s);
        },
        lost: (problem) => {
          if (run !== this.run || stream !== this.stream) return;
          const waits = problem.status === 503 && performance.now() < this.patient_until_ms;
          if (!waits) return void this._fail(problem);
          this._wait("Waiting for the model");
          setTimeout(() => run === this.run && stream === this.stream && this._connect(), AGAIN_MS);
        },
      },
    );
    this.stream = stream;
    this._arrange();
  }

  /** A stream cannot be given another source: it ends, and another one goes on. */
  async _reconnect() {
    const before = this.stream;
    const run = this.run;
    this.stream = null;
    this.patient_until_ms = performance.now() + PATIENCE_MS;
    this.pictures?.pause();
    await before?.end();
    if (run !== this.run) return;
    this.silenced?.end();
    this.silenced = null;
    this._connect();
  }

  /** Switches a source on or off while it runs. */
  async _turn(source, isOn) {
    this.wanted[source] = isOn;
    if (this.running.hidden) return this._show("idle");
    if (!this.wanted.audio && !this.wanted.video) return this.stop(true);
    const run = this.run;
    if (isOn) {
      try {
        await this._open();
      } catch (error) {
        this.wanted[source] = this.switches[source].input.checked = false;
        this._wait(error.message);
        return;
      }
      if (run === this.run) await this._reconnect();
    } else if (source === "video") {
      this.stream?.endOf("video");
      this.pictures.end();
      this.pictures = null;
    } else {
      this.stream?.endOf("audio");
      this.silenced = this.sound; // its clock is that of the pictures
      this.silenced.silence();
      this.sound = null;
    }
    this._arrange();
    announce(`${source === "video" ? "Camera" : "Microphone"} ${isOn ? "on" : "off"}`);
  }

  // --- what is shown --------------------------------------------------------------------------

  _arrange() {
    this.frame.classList.toggle("dark", !this.pictures);
    if (!this.pictures) drawFaces(this.canvas, 1, []);
  }

  /** Says what is going on while there is no answer. */
  _wait(text) {
    this.label.textContent = "…";
    this.label.classList.add("plain");
    drawFaces(this.canvas, 1, []);
    this.lead.textContent = sentence(text);
    this.latency.textContent = "";
    this.bars.show({});
  }

  _take({ prediction, latency_s, box }, base_s) {
    this.last_ms = performance.now();
    this.recent.add(base_s + prediction.end_s, prediction);
    if (latency_s > FALLEN_BEHIND_S) {
      this._wait("This machine cannot keep up, and begins afresh");
      void this._reconnect();
      return;
    }
    if (!prediction.modality) {
      this._wait(this.pictures ? "Nobody speaks, and no face is seen" : "Nobody speaks");
    } else {
      this.label.textContent = prediction.label ? named(prediction.label) : "Now";
      this.label.classList.toggle("plain", !prediction.label);
      this.palette.tint(this.label, prediction.label ?? "");
      this.lead.textContent = leadOf(prediction);
      this.bars.show(valuesOf(prediction));
    }
    this.latency.textContent = `${latency_s.toFixed(1)} s behind`;
    this.latency.title = "From the end of a window of 2 seconds to its answer";
    this._draw(box, prediction);
    this._speak(prediction);
  }

  _draw(box, prediction) {
    const { videoWidth, videoHeight } = this.video;
    // The preview is a mirror, and the box is not.
    const mirrored = box && [1 - box[2], box[1], 1 - box[0], box[3]];
    const face = {
      box: mirrored,
      text: said(prediction),
      colour: this.palette.of(prediction.label ?? "unsure"),
    };
    drawFaces(
      this.canvas,
      videoWidth / videoHeight || 4 / 3,
      mirrored && this.pictures ? [face] : [],
    );
  }

  _speak(prediction) {
    const now_ms = performance.now();
    if (prediction.label === this.spoken || now_ms - (this.spoken_ms ?? 0) < SPOKEN_EVERY_MS)
      return;
    [this.spoken, this.spoken_ms] = [prediction.label, now_ms];
    announce(said(prediction));
  }

  _tick() {
    this.recent.show(this._now_s);
    if (this.last_ms && performance.now() - this.last_ms > STALE_MS) {
      this.last_ms = 0;
      this._wait("Waiting for the next answer");
    }
  }
}

function leadOf(prediction) {
  const from = `from ${madeFrom(prediction.modality)}`;
  if (prediction.confidence === null) return sentence(from);
  if (prediction.label === "unsure") return `No clear answer, ${from}.`;
  return `${percent(prediction.confidence)} confidence, ${from}.`;
}
