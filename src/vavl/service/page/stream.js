/** One live stream: sound and pictures go to the service, windows come back. */

import { Problem } from "./api.js";

const [SOUND, PICTURE] = [1, 2];
/** More bytes than this wait to be sent: pictures are left out, the sound is not. */
const MOST_WAITING = 200_000;
/** So long the last windows are waited for. */
const FAREWELL_MS = 3000;

export class Stream {
  /**
   * @param {{audio: boolean, video: boolean, sampling_rate_hz: number}} sources
   * @param {{ready: () => void, window: (message: object) => void, lost: (problem: Problem) => void}} on
   */
  constructor(sources, on) {
    this.isEnding = false;
    const address = new URL("/v1/stream", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(address);
    this.closed = new Promise((resolve) => this.socket.addEventListener("close", resolve));
    let opened = false;
    let told = false;
    const lose = (problem) => {
      if (told || this.isEnding) return;
      told = true;
      on.lost(problem);
      this.socket.close();
    };
    this.socket.onopen = () => {
      opened = true;
      this._tell({ type: "start", ...sources });
    };
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "ready" && !this.isEnding) on.ready();
      else if (message.type === "window") on.window(message);
      else if (message.type === "problem") lose(new Problem(message));
      else if (message.type === "end") this.socket.close();
    };
    this.socket.onclose = () =>
      lose(
        new Problem({
          detail: opened
            ? "The connection to the service was lost."
            : "The service did not take the connection.",
        }),
      );
  }

  get hasRoom() {
    return this.socket.readyState === WebSocket.OPEN && this.socket.bufferedAmount < MOST_WAITING;
  }

  /** @param {Int16Array} samples */
  sound(samples) {
    const message = new Uint8Array(1 + samples.byteLength);
    message[0] = SOUND;
    message.set(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength), 1);
    this._send(message);
  }

  /** @param {number} time_s @param {Blob} jpeg */
  picture(time_s, jpeg) {
    const head = new DataView(new ArrayBuffer(9));
    head.setUint8(0, PICTURE);
    head.setFloat64(1, time_s, true);
    this._send(new Blob([head, jpeg]));
  }

  /** One source ends, the other goes on. @param {"audio"|"video"} source */
  endOf(source) {
    this._tell({ type: "end", source });
  }

  /** All ends. Returns when the service has let go. */
  async end() {
    this.isEnding = true;
    this._tell({ type: "end" });
    await Promise.race([this.closed, new Promise((resolve) => setTimeout(resolve, FAREWELL_MS))]);
    this.socket.close();
  }

  _tell(message) {
    this._send(JSON.stringify(message));
  }

  _send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(message);
  }
}
