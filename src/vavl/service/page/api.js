/** Requests to the service; `docs/serve.md` says what it answers. */

/** What the service refuses, or that it cannot be reached. */
export class Problem extends Error {
  /** @param {{status?: number, title?: string, detail?: string}} problem */
  constructor({ status = 0, title = "", detail = "" }, retryAfter_s = 0) {
    super(detail || title || "The service did not answer.");
    this.status = status;
    this.retryAfter_s = retryAfter_s;
  }

  /** What one can do about it, or nothing. */
  get remedy() {
    return (
      {
        0: "Is the service still running? Look at the terminal that you started it in.",
        401: "Open the address that the terminal printed: it carries the key to this page.",
        404: "The service forgets answers after a quarter of an hour. Send the clip again.",
        408: "The clip came in too slowly. Send it again, or a shorter one.",
        413: "Send a shorter clip, or start the service with a larger --max-upload.",
        421: "Open the page by the address that the terminal printed.",
        422: "Try another clip.",
        500: "The file may be damaged. Convert it, for instance to mp4, and send it again.",
        503: "Wait a little, then try again.",
        504: "Send a shorter clip, or start the service with a larger --time-limit.",
        507: "Make room on the disk of the machine that runs the service.",
      }[this.status] ?? ""
    );
  }

  /** Of an answer that is no success. */
  static from(status, text, retryAfter) {
    let problem = {};
    try {
      problem = JSON.parse(text);
    } catch {
      // Not from the service itself: a proxy, for instance.
    }
    return new Problem({ ...problem, status }, Number(retryAfter) || 0);
  }
}

/** Fetches, and throws a Problem where there is no success. */
async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({});
  }
  if (answer.ok) return answer;
  throw Problem.from(answer.status, await answer.text(), answer.headers.get("Retry-After"));
}

/** What the model can do, and which of sound and picture it uses. */
export async function getModel() {
  const model = await (await request("/v1/model")).json();
  return {
    ...model,
    hears: model.takes.includes("acoustic"),
    sees: model.takes.includes("visual"),
  };
}

/** The model's card as markup without scripts. */
export const getCard = async () => (await request("/v1/model/card")).text();

/**
 * Sends a clip.
 *
 * @param {File} file
 * @param {Object<string, string>} options Of the query.
 * @param {(share: number) => void} onSent How much is sent, in [0, 1].
 * @param {AbortSignal} signal
 * @returns {Promise<{id: string}>} The state of the prediction.
 */
export function send(file, options, onSent, signal) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest(); // fetch does not tell how much is sent
    sending.open("POST", `/v1/predictions?${new URLSearchParams(options)}`);
    sending.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    sending.setRequestHeader("Prefer", "respond-async");
    sending.upload.onprogress = (event) => onSent(event.loaded / Math.max(1, event.total));
    sending.onload = () => {
      if (sending.status === 202) return resolve(JSON.parse(sending.responseText));
      const retryAfter = sending.getResponseHeader("Retry-After");
      reject(Problem.from(sending.status, sending.responseText, retryAfter));
    };
    sending.onerror = () => reject(new Problem({}));
    sending.onabort = () => reject(new DOMException("ended", "AbortError"));
    signal.addEventListener("abort", () => sending.abort());
    sending.send(file);
  });
}

/**
 * Follows a prediction until it is done.
 *
 * @param {string} id
 * @param {(state: object) => void} onState
 * @param {AbortSignal} signal
 * @returns {Promise<object>} The prediction.
 */
export function follow(id, onState, signal) {
  return new Promise((resolve, reject) => {
    const events = new EventSource(`/v1/predictions/${id}/events`);
    const end = (settle, value) => {
      events.close();
      settle(value);
    };
    const take = (state) => {
      if (state.status === "done") end(resolve, state.prediction);
      else if (state.status === "failed") end(reject, new Problem(state.problem));
      else onState(state);
    };
    events.addEventListener("state", (event) => take(JSON.parse(event.data)));
    events.onerror = () => {
      if (events.readyState !== EventSource.CLOSED) return; // it connects again by itself
      request(`/v1/predictions/${id}`)
        .then((answer) => answer.json())
        .then((state) => {
          take(state);
          if (["queued", "running"].includes(state.status)) end(reject, new Problem({}));
        })
        .catch((problem) => end(reject, problem));
    };
    signal.addEventListener("abort", () => end(reject, new DOMException("ended", "AbortError")));
  });
}

/** Stops and forgets a prediction, also while the page is left; it may be forgotten already. */
export const forget = (id) =>
  request(`/v1/predictions/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});

/** A finished prediction in another format: `csv`, `srt`, `vtt`. */
export const inFormat = async (id, format) =>
  (await request(`/v1/predictions/${id}?format=${format}`)).blob();
