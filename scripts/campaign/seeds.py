"""Small intact files that a campaign damages: media, a model folder, a store and a profile."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

import vavl
from vavl.data.corpora.synthetic import prepare_synthetic
from vavl.data.partition import Partition
from vavl.data.store import StoreWriter
from vavl.inference.loading import model_folder
from vavl.media.audio import read_audio
from vavl.media.video import video_frames
from vavl.types import FeatureSpec, Modality

RATE_HZ, FRAME_RATE_HZ, LENGTH_S = 16_000, 10, 1.5
MEDIA = ("a.wav", "a.flac", "a.mp3", "a.mkv", "a.mp4", "a.avi", "a.png", "a.jpg", "a.gif")
_CODECS = {".wav": "pcm_s16le", ".flac": "flac", ".mp3": "mp3", ".avi": "pcm_s16le"}


def write_media(folder: Path) -> list[Path]:
    """A second and a half of a drawn person who speaks, in several formats."""
    [clip] = prepare_synthetic(folder / "drawn", speakers=1, clips_per_speaker=1, progress=False)
    path = folder / "drawn" / str(clip.video_path)
    sound = (read_audio(path, end_s=LENGTH_S)[None] * 32_767).astype(np.int16)
    frames = video_frames(path, frame_rate_hz=FRAME_RATE_HZ, end_s=LENGTH_S, max_side=160)
    pictures = np.stack([frame.pixels for frame in frames])
    for name in MEDIA:
        path = folder / name
        if path.suffix in (".png", ".jpg"):
            Image.fromarray(pictures[0]).save(path)
        elif path.suffix == ".gif":
            first, *others = map(Image.fromarray, pictures)
            first.save(path, save_all=True, append_images=others, duration=100)
        else:
            _write_film(path, sound, pictures)
    return [folder / name for name in MEDIA]


def _write_film(path: Path, sound: np.ndarray, pictures: np.ndarray) -> None:
    with av.open(str(path), "w") as file:
        film = path.suffix in (".mkv", ".mp4", ".avi")
        audio = file.add_stream(_CODECS.get(path.suffix, "aac"), rate=RATE_HZ, layout="mono")
        video = file.add_stream("mpeg4", rate=FRAME_RATE_HZ) if film else None
        if video is not None:
            video.height, video.width = pictures.shape[1:3]
            video.pix_fmt = "yuv420p"
        frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        for packet in (*audio.encode(frame), *audio.encode(None)):
            file.mux(packet)
        if video is not None:
            for picture in pictures:
                file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(video.encode(None))


def write_model(folder: Path) -> Path:
    """The model of the package, as a folder of its own."""
    return Path(shutil.copytree(model_folder(None), folder / "model"))


def write_store(folder: Path) -> Path:
    """A store of three clips, with a partition beside it."""
    path = folder / "store"
    random = np.random.default_rng(0)
    with StoreWriter(path, FeatureSpec(Modality.VISUAL, "arrays", 4, None), 2) as writer:
        for name in "abc":
            writer.write(name, random.normal(size=(5, 4)))
    Partition("fold-0", ("a",), ("b",), ("c",)).save(path / "partition.json")
    return path


def write_profile(folder: Path) -> Path:
    """What is known of a person of whom there are two clips."""
    clips = [{"acoustic": np.full((5, 1536), float(number))} for number in range(2)]
    path = folder / "ann.safetensors"
    vavl.load().adapt(clips, speaker="ann").save(path)
    return path
