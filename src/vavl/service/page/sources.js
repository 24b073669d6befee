/** Camera and microphone, on one clock. */

/** Pictures are so wide at most, so many a second. */
const WIDEST_PX = 480;
const PICTURES_HZ = 12.5;
const JPEG_QUALITY = 0.8;

/** Why there is neither camera nor microphone, for the one who reads the page. */
export class SourceError extends Error {}

/** @returns {string} Why the browser gives no camera here, or nothing. */
export function refusal() {
  if (window.isSecureContext && navigator.mediaDevices) return "";
  return (
    "Browsers give camera and microphone only to pages from this machine or over https. Open the page as " +
    `http://localhost:${location.port || 80} on the machine that runs the service, or start the service with ` +
    "--certificate and --key and open it as https."
  );
}

/** Opens what is wanted, and says in plain words why it cannot. */
async function open(constraints, what) {
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    const why = {
      NotAllowedError: `The browser was not allowed to use the ${what}. Allow it beside the address of the page, then start again.`,
      NotFoundError: `There is no ${what} on this machine. Connect one, or switch it off here.`,
      NotReadableError: `Another program uses the ${what}. Close it, then start again.`,
      OverconstrainedError: `There is no ${what} on this machine that fits.`,
    }[error.name];
    throw new SourceError(why ?? `The ${what} cannot be used: ${error.message}`);
  }
}

/** Sound of the microphone. */
export class Sound {
  static async open() {
    const found = await open(
      { audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } },
      "microphone",
    );
    const sound = new Sound();
    sound.stream = found;
    sound.context = new AudioContext();
    try {
      await sound.context.audioWorklet.addModule("/page/microphone.js");
      await sound.context.resume();
    } catch (error) {
      sound.end();
      throw new SourceError(`The microphone cannot be read: ${error.message}`);
    }
    return sound;
  }

  get samplingRate_hz() {
    return this.context.sampleRate;
  }

  /**
   * @param {(samples: Int16Array) => void} take
   * @returns {Promise<void>} When the first block is there: from then on `time_s` counts.
   */
  begin(take) {
    if (!this.node) {
      this.node = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
      this.context.createMediaStreamSource(this.stream).connect(this.node);
    }
    this.began_s = undefined;
    return new Promise((resolve) => {
      this.node.port.onmessage = ({ data: { samples, end_s } }) => {
        this.began_s ??= end_s - samples.length / this.samplingRate_hz;
        take(samples);
        resolve();
      };
    });
  }

  /** Seconds since the first sample. */
  get time_s() {
    return this.context.currentTime - this.began_s;
  }

  /** No more sound; the clock goes on. */
  silence() {
    if (this.node) this.node.port.onmessage = null;
    for (const track of this.stream.getTracks()) track.stop();
  }

  end() {
    this.silence();
    if (this.context.state !== "closed") void this.context.close();
  }
}

/** Pictures of the camera. */
export class Pictures {
  /** @param {HTMLVideoElement} preview Shows what the camera sees. */
  static async open(preview) {
    const pictures = new Pictures();
    pictures.stream = await open(
      { video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" } },
      "camera",
    );
    pictures.preview = preview;
    preview.srcObject = pictures.stream;
    await preview.play();
    return pictures;
  }

  /**
   * @param {() => number} clock Seconds on the clock of the sound.
   * @param {(time_s: number, jpeg: Blob) => void} take
   * @param {() => boolean} isFree Whether there is room for a picture: else it is left out.
   */
  begin(clock, take, isFree) {
    const canvas = document.createElement("canvas");
    const pen = canvas.getContext("2d");
    let isBusy = false;
    let last_s = -1;
    this.timer = setInterval(() => {
      const { videoWidth, videoHeight } = this.preview;
      const time_s = clock();
      if (isBusy || !videoWidth || !(time_s >= 0) || time_s <= last_s || !isFree()) return;
      if (!canvas.width || canvas.dataset.of !== `${videoWidth}x${videoHeight}`) {
        // All pictures of a stream have one shape, whichever way a phone is turned meanwhile.
        if (last_s >= 0) return this.onturn?.();
        canvas.dataset.of = `${videoWidth}x${videoHeight}`;
        canvas.width = Math.min(WIDEST_PX, videoWidth);
        canvas.height = Math.round((canvas.width * videoHeight) / videoWidth);
      }
      [isBusy, last_s] = [true, time_s];
      pen.drawImage(this.preview, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(
        (jpeg) => {
          isBusy = false;
          if (jpeg && this.timer) take(time_s, jpeg);
        },
        "image/jpeg",
        JPEG_QUALITY,
      );
    }, 1000 / PICTURES_HZ);
  }

  /** No more pictures until it begins again. */
  pause() {
    clearInterval(this.timer);
    this.timer = null;
  }

  end() {
    this.pause();
    for (const track of this.stream.getTracks()) track.stop();
    this.preview.srcObject = null;
  }
}
