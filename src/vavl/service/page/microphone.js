/** In the audio thread: sound as mono 16-bit samples, in blocks of a tenth of a second. */

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(Math.round(sampleRate / 10));
    this.filled = 0;
  }

  process([channels]) {
    const length = channels[0]?.length ?? 128; // silence where nothing is connected: no gaps
    for (let n = 0; n < length; n++) {
      let sum = 0;
      for (const channel of channels) sum += channel[n];
      const value = channels.length ? sum / channels.length : 0;
      this.block[this.filled++] = Math.round(Math.max(-1, Math.min(1, value)) * 32767);
      if (this.filled === this.block.length) {
        // `end_s` is on the clock of the audio context: that of the pictures, too.
        const end_s = currentTime + (n + 1) / sampleRate;
        this.port.postMessage({ samples: this.block, end_s }, [this.block.buffer]);
        this.block = new Int16Array(Math.round(sampleRate / 10));
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
