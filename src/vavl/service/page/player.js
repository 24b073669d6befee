/** The user's own file, played; or, where the browser cannot, a time that can be set all the same. */

import { h } from "./dom.js";

export class Playback {
  /**
   * @param {File} file
   * @param {boolean} hasPicture
   * @param {number} duration_s
   */
  constructor(file, hasPicture, duration_s) {
    this.duration_s = duration_s;
    this.url = URL.createObjectURL(file);
    this.element = h(hasPicture ? "video" : "audio", {
      controls: true,
      playsinline: true,
      preload: "auto",
      controlslist: "nodownload nofullscreen noremoteplayback",
      disablepictureinpicture: true,
      "aria-label": file.name,
    });
    this.isPlayable = true;
    this._set_s = 0; // where it stands without a player
    this._listeners = new Set();
    this._tick = this._tick.bind(this);
    for (const name of ["loadedmetadata", "seeking", "seeked", "timeupdate", "play", "pause"])
      this.element.addEventListener(name, this._tick);
    this.element.src = this.url;
  }

  /** Calls back with the time whenever it changes. */
  onTime(listener) {
    this._listeners.add(listener);
    listener(this.time_s);
  }

  get time_s() {
    return this.isPlayable ? this.element.currentTime : this._set_s;
  }

  get isPlaying() {
    return this.isPlayable && !this.element.paused && !this.element.ended;
  }

  seek(time_s) {
    this._set_s = Math.min(Math.max(time_s, 0), this.duration_s);
    if (this.isPlayable) this.element.currentTime = this._set_s;
    this._tell();
  }

  play() {
    if (this.isPlayable) this.element.play().catch(() => {});
  }

  toggle() {
    if (this.isPlaying) this.element.pause();
    else this.play();
  }

  /** What cannot be played still has a time. */
  giveUp() {
    this.isPlayable = false;
    this._tell();
  }

  end() {
    cancelAnimationFrame(this._frame);
    this._listeners.clear();
    this.element.removeAttribute("src");
    this.element.load();
    URL.revokeObjectURL(this.url);
  }

  _tick() {
    this._tell();
    cancelAnimationFrame(this._frame);
    if (this.isPlaying) this._frame = requestAnimationFrame(this._tick);
  }

  _tell() {
    for (const listener of this._listeners) listener(this.time_s);
  }
}
