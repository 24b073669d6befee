"""What `vavl predict` takes of time and memory, each time in a fresh process.

python scripts/trial_speed.py GRID_CLIP [--model MODEL] [--hour]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from vavl.media.audio import SAMPLING_RATE_HZ, read_audio
from vavl.media.container import media_info
from vavl.media.video import video_frames
from vavl.media.writing import write_mp4

_FRAME_RATE_HZ = 25
_COLD_STARTS = 3
_GAP_S = 0.1
"""Between repeats: the last packet of sound lasts longer than the film."""


def write_minute(source: Path, path: Path, duration_s: int = 60) -> None:
    """A clip again and again, sound and picture, as MP4."""
    pictures = [f.pixels for f in video_frames(source, frame_rate_hz=_FRAME_RATE_HZ)]
    wanted = duration_s * _FRAME_RATE_HZ
    sound = np.resize(read_audio(source), duration_s * SAMPLING_RATE_HZ).astype(np.float64)
    again = (pictures[number % len(pictures)] for number in range(wanted))
    write_mp4(path, again, sound, _FRAME_RATE_HZ)


def write_repeated(source: Path, path: Path, times: int) -> None:
    """An MP4 file several times over, without encoding it anew."""
    with av.open(str(path), "w") as output, av.open(str(source)) as first:
        # All tracks before the first packet, with which the header is written.
        tracks = [output.add_stream_from_template(track) for track in first.streams]
        for number in range(times):
            with av.open(str(source)) as container:
                start_s = number * ((container.duration or 0) / av.time_base + _GAP_S)
                for packet in container.demux():
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue  # the empty packet at the end
                    shift = round(start_s / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = tracks[packet.stream.index]
                    output.mux(packet)


def measured(clip: Path, model: str | None) -> tuple[float, float]:
    """Seconds and the peak of resident memory in MB of `vavl predict`."""
    command = [sys.executable, "-m", "vavl", "predict", *(["--model", model] if model else [])]
    started = time.perf_counter()
    with subprocess.Popen([*command, str(clip)], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"vavl predict {clip}: exit code {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def speed(clip: Path, model: str | None, *, hour: bool) -> dict[str, Any]:
    """Cold start, real-time factor of a minute, and memory; with ``hour`` of an hour as well."""
    length_s = media_info(clip).duration_s or 0.0
    cold = [measured(clip, model) for _ in range(_COLD_STARTS)]
    cold_s = statistics.median(seconds for seconds, _ in cold)
    result: dict[str, Any] = {
        "load": round(os.getloadavg()[0], 2),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "clip_s": round(length_s, 2),
        "cold_start_s": round(cold_s, 2),
        "clip_peak_mb": round(max(peak for _, peak in cold)),
    }
    with tempfile.TemporaryDirectory() as scratch:
        minute = Path(scratch) / "minute.mp4"
        write_minute(clip, minute)
        seconds, peak_mb = measured(minute, model)
        result |= {
            "real_time_factor": round(seconds / 60, 4),
            "real_time_factor_without_start": round((seconds - cold_s) / (60 - length_s), 4),
            "minute_peak_mb": round(peak_mb),
        }
        if hour:
            write_repeated(minute, Path(scratch) / "hour.mp4", 60)
            seconds, peak_mb = measured(Path(scratch) / "hour.mp4", model)
            result |= {
                "hour_real_time_factor": round(seconds / 3600, 4),
                "hour_peak_mb": round(peak_mb),
                "hour_over_clip_mb": round(peak_mb - result["clip_peak_mb"]),
            }
    return result


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path, help="a talking face of a few seconds")
    parser.add_argument("--model", help="default: the model of the package")
    parser.add_argument("--hour", action="store_true", help="memory of an hour as well: slow")
    options = parser.parse_args()
    print(json.dumps(speed(options.clip, options.model, hour=options.hour), indent=1))


if __name__ == "__main__":
    main()
