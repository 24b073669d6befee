/** The view of clips: to drop them, to wait for them, to choose which answer is shown. */

import { Problem, follow, forget, send } from "./api.js";
import { announce, h, icon } from "./dom.js";
import { result } from "./result.js";
import { clock, machine, percent, said, sentence, size } from "./words.js";

/** A service that is full is asked again so many times, after so long at most. */
const TRIES = 30;
const LONGEST_WAIT_S = 30;

/**
 * One file and what has become of it.
 *
 * @typedef {"waiting"|"sending"|"full"|"queued"|"running"|"done"|"failed"} Step
 */
class Clip {
  /** @param {File} file @param {boolean} hasSegments */
  constructor(file, hasSegments) {
    this.file = file;
    this.hasSegments = hasSegments;
    /** @type {Step} */
    this.step = "waiting";
    this.sent = 0; // share
    this.progress = null; // the state that the service told last
    this.prediction = null;
    this.problem = null;
    this.ending = new AbortController();
  }

  get isDone() {
    return this.step === "done" || this.step === "failed";
  }

  /** Sends the file; asks again while the service is full. */
  async send(change) {
    const options = { name: this.file.name, timeline: "true", people: "all" };
    if (this.hasSegments) options.segments = "true";
    for (let tries = 1; ; tries++) {
      this.ending.signal.throwIfAborted();
      change({ step: "sending", sent: 0 });
      try {
        return await send(this.file, options, (sent) => change({ sent }), this.ending.signal);
      } catch (error) {
        if (error.status !== 503 || tries === TRIES) throw error;
        change({ step: "full" });
        const wait_s = Math.min(error.retryAfter_s || 2, LONGEST_WAIT_S);
        await new Promise((resolve) => setTimeout(resolve, 1000 * wait_s));
      }
    }
  }

  /** What becomes of it, in words. */
  get words() {
    const { progress } = this;
    switch (this.step) {
      case "waiting":
        return "Waits for the one before it";
      case "sending":
        return this.sent < 1 ? `Sending, ${percent(this.sent)} of ${size(this.file.size)}` : "Sent";
      case "full":
        return "The service is busy. It is asked again in a moment.";
      case "queued":
        return progress?.waiting
          ? `In the queue, ${progress.waiting} before it`
          : "Next in the queue";
      case "running":
        if (progress.done_s === null) return "Predicting";
        return progress.duration_s
          ? `Predicted ${clock(progress.done_s)} of ${clock(progress.duration_s)}`
          : `Predicted ${clock(progress.done_s)}`;
      case "done":
        return said(this.prediction);
      default:
        return `${sentence(this.problem.message.replace(`${this.file.name}: `, ""))} ${this.problem.remedy}`;
    }
  }

  /** How far it is, in [0, 1]; null where that is not known. */
  get share() {
    if (this.step === "sending") return this.sent < 1 ? this.sent : null;
    const { done_s, duration_s } = this.progress ?? {};
    return this.step === "running" && duration_s ? Math.min(1, (done_s ?? 0) / duration_s) : null;
  }
}

/** The list of clips and the answer that is shown. */
export class ClipView {
  /** @param {HTMLElement} view @param {object} model */
  constructor(view, model) {
    this.model = model;
    /** @type {Map<Clip, HTMLElement>} */
    this.rows = new Map();
    this.chosen = null;
    this.shown = null;
    this.sending = Promise.resolve();
    this.view = view;
    const chooser = h("input", {
      type: "file",
      multiple: true,
      accept: "video/*,audio/*,.mkv,.flv,.avi,.mpg,.mts",
      hidden: true,
      onchange: () => {
        this.add([...chooser.files]);
        chooser.value = "";
      },
    });
    this.button = h(
      "button",
      { type: "button", class: "main", onclick: () => chooser.click() },
      icon("upload"),
      h("span", {}, "Choose a file"),
    );
    this.title = h("p", { class: "drop-title" });
    this.list = h("ol", { class: "clips", "aria-label": "Clips" });
    this.place = h("div", {});
    view.append(
      h(
        "div",
        { class: "intro" },
        h("h1", {}, "What does a clip express?"),
        h("p", { class: "lead" }, introduction(model)),
      ),
      h(
        "div",
        { class: "drop" },
        this.title,
        this.button,
        h(
          "p",
          { class: "muted hint" },
          "Video or sound: mp4, mov, mkv, webm, wav, mp3, flac, and more. Several at once, too.",
        ),
        chooser,
      ),
      this.list,
      this.place,
    );
    this._arrange();
  }

  /** Sends files, one after the other; each is followed while the next is sent. */
  add(files) {
    for (const file of files) {
      const clip = new Clip(file, this.model.hears);
      const row = h("li", {});
      this.rows.set(clip, row);
      this.list.append(row);
      this._draw(clip);
      this.sending = this.sending.then(async () => {
        const change = (news) => this._change(clip, news);
        try {
          const { id } = await clip.send(change);
          change({ step: "queued", id });
          void this._follow(clip, change);
        } catch (error) {
          this._fail(clip, error);
        }
      });
    }
    this._arrange();
  }

  async _follow(clip, change) {
    try {
      const prediction = await follow(
        clip.id,
        (progress) => change({ step: progress.status, progress }),
        clip.ending.signal,
      );
      change({ step: "done", prediction });
      announce(`${clip.file.name}: ${said(prediction)}`);
      if (!this.chosen) this._choose(clip);
    } catch (error) {
      this._fail(clip, error);
    }
  }

  _fail(clip, error) {
    if (error.name === "AbortError") return;
    const problem = error instanceof Problem ? error : new Problem({ detail: String(error) });
    this._change(clip, { step: "failed", problem });
    announce(`${clip.file.name}: ${problem.message}`);
  }

  _change(clip, news) {
    if (!this.rows.has(clip)) return;
    Object.assign(clip, news);
    this._draw(clip);
  }

  /** The service need not keep what nobody can see any more. */
  leave() {
    for (const clip of this.rows.keys()) if (clip.id) void forget(clip.id);
  }

  _remove(clip) {
    clip.ending.abort();
    if (clip.id) void forget(clip.id);
    this.rows.get(clip).remove();
    this.rows.delete(clip);
    if (this.chosen === clip)
      this._choose([...this.rows.keys()].find((other) => other.step === "done") ?? null);
    this._arrange();
    this.button.focus();
  }

  _choose(clip) {
    this.shown?.end();
    const before = this.chosen;
    this.chosen = clip;
    this.shown = clip && result(clip, this.model);
    this.place.replaceChildren(...(clip ? [this.shown.element] : []));
    for (const one of [before, clip]) if (this.rows.has(one)) this._draw(one);
    this._arrange();
  }

  /** The large invitation makes room once there is something to look at. */
  _arrange() {
    this.view.classList.toggle("has-clips", this.rows.size > 0);
    this.view.classList.toggle("has-result", this.shown !== null);
    this.title.textContent = this.rows.size
      ? "or drop it anywhere on the page"
      : "Drop a clip here";
    this.button.lastChild.textContent = this.rows.size ? "Another clip" : "Choose a file";
  }

  _draw(clip) {
    const row = this.rows.get(clip);
    const { share } = clip;
    const isShown = this.chosen === clip;
    const name = h("span", { class: "file-name" }, clip.file.name);
    const words = h("span", { class: "muted state" }, clip.words);
    row.className = `${clip.step}${isShown ? " chosen" : ""}`;
    if (
      !row.firstChild ||
      row.dataset.step !== clip.step ||
      row.dataset.shown !== String(isShown)
    ) {
      row.dataset.step = clip.step;
      row.dataset.shown = String(isShown);
      const hadFocus = row.contains(document.activeElement);
      const label = clip.isDone ? `Remove ${clip.file.name}` : `Cancel ${clip.file.name}`;
      row.replaceChildren(
        clip.step === "done"
          ? h(
              "button",
              {
                type: "button",
                class: "open",
                "aria-pressed": String(isShown),
                onclick: () => this._choose(clip),
              },
              name,
              words,
            )
          : h("div", { class: "open" }, name, words),
        clip.isDone ? "" : h("progress", { max: 1, "aria-label": `Progress of ${clip.file.name}` }),
        h(
          "button",
          {
            type: "button",
            class: clip.isDone ? "round small" : "quiet small",
            "aria-label": label,
            title: label,
            onclick: () => this._remove(clip),
          },
          clip.isDone ? icon("close") : "Cancel",
        ),
      );
      if (hadFocus) row.querySelector("button").focus();
    }
    row.querySelector(".state").textContent = clip.words;
    const bar = row.querySelector("progress");
    if (bar) {
      if (share === null) bar.removeAttribute("value");
      else bar.value = share;
    }
  }
}

function introduction({ hears, sees }) {
  const parts = [hears && "the voice", sees && "every face in the picture"].filter(Boolean);
  const what = parts.join(" and ");
  return `Drop one, and see what ${what} ${parts.length > 1 ? "say" : "says"}, moment by moment. It stays on ${machine}.`;
}
