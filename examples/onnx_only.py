"""Says what a voice sounds like, with onnxruntime and numpy alone.

    vavl export compact --standalone --out compact-onnx     # once, anywhere
    python examples/onnx_only.py compact-onnx/acoustic.onnx voice.wav

The file holds speech: 16 bits, 16 kHz, any number of channels.
"""

import json
import sys
import wave

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
about = session.get_modelmeta().custom_metadata_map
categories, takes = json.loads(about["categories"]), json.loads(about["waveform"])

with wave.open(sys.argv[2]) as file:
    if (file.getsampwidth(), file.getframerate()) != (2, takes["sampling_rate_hz"]):
        sys.exit("expected 16 bits and 16 kHz: ffmpeg -i IN -ar 16000 -c:a pcm_s16le OUT.wav")
    samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    samples = samples.reshape(-1, file.getnchannels()).mean(1)

rate_hz = takes["sampling_rate_hz"]
parts = np.array_split(samples, int(np.ceil(len(samples) / rate_hz / takes["part_s"])) or 1)
if len(parts[0]) < takes["shortest_s"] * rate_hz:
    sys.exit(f"expected at least {takes['shortest_s']} s of speech")
answers = [session.run(["probabilities"], {"waveform": part[None]})[0][0] for part in parts]
for share, category in sorted(zip(np.mean(answers, axis=0), categories, strict=True))[::-1]:
    print(f"{category:10} {share:.4f}")
