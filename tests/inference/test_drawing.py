"""Pictures of a prediction: what is drawn, when, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest

import vavl
from vavl.errors import InputError, MediaError
from vavl.inference import ClipFiles, drawing
from vavl.inference.drawing import Overlay, box_at, draw_overlay, plot_timeline
from vavl.inference.illustrating import Pictures, illustrate
from vavl.media.audio import read_audio
from vavl.media.container import media_info
from vavl.media.frames import VideoFrame
from vavl.media.video import video_frames
from vavl.system.plotting import LINE
from vavl.types import UNSURE, FaceBox, Modality, Person, Prediction, TimedPrediction


def clip(path: Path) -> ClipFiles:
    return ClipFiles(path.name, media=path)


def window(start_s: float, label: str | None, share: float | None = 1.0) -> TimedPrediction:
    probabilities = {} if label is None else {"sad": 0.2, "happy": 0.2, label: 0.8}
    modality = None if label is None else Modality.VISUAL
    return TimedPrediction(start_s, start_s + 2, modality, label, probabilities, {}, share)


def said(*windows: TimedPrediction) -> Prediction:
    return Prediction(
        "clip", Modality.VISUAL, "sad", {"sad": 0.8, "happy": 0.2}, {}, timeline=windows
    )


def test_illustrate_draws_both_and_predicts_as_without(recognizer, film, tmp_path) -> None:
    path = film()
    plot, overlay = tmp_path / "new" / "plot.png", tmp_path / "overlay.mp4"
    prediction = illustrate(recognizer, clip(path), plot=plot, overlay=overlay)
    assert prediction == recognizer.predict(path, timeline=True)
    with av.open(str(plot)) as picture:
        assert picture.streams.video[0].width > 1000
    before, after = list(video_frames(path)), list(video_frames(overlay))
    assert [f.time_s for f in after] == pytest.approx([f.time_s for f in before], abs=1e-3)
    assert media_info(overlay).duration_s == pytest.approx(media_info(path).duration_s, abs=0.03)
    for old, new in zip(before, after, strict=True):
        changed = np.abs(old.pixels.astype(int) - new.pixels).max(axis=2) > 60
        assert changed[:, :70].any()
        assert not changed[48:, 70:].any()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.mp4", "new", "overlay.mp4"]


@pytest.mark.parametrize(
    ("name", "codec", "kept"),
    [
        ("film.mp4", "aac", "aac"),
        ("film.ts", "aac", "aac"),
        ("film.mkv", "ac3", "ac3"),
        ("film.avi", "pcm_s16le", "aac"),
        ("film.mkv", "libopus", "aac"),
    ],
)
def test_overlay_keeps_the_sound_where_it_is(film, tmp_path, name, codec, kept) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot make {codec}")
    path, overlay = _with_click(tmp_path / name, codec), tmp_path / "out" / "overlay.mp4"
    draw_overlay(path, overlay, said(window(0, "sad")))
    with av.open(str(overlay)) as file:
        assert file.streams.audio[0].codec_context.name == kept
        assert file.streams.audio[0].codec_context.channels == 2
    old, new = read_audio(path), read_audio(overlay)
    assert len(new) == pytest.approx(len(old), abs=2000)
    assert np.abs(new).argmax() == pytest.approx(np.abs(old).argmax(), abs=0.02 * 16_000)


def _with_click(path: Path, codec: str) -> Path:
    """A second of grey, and a click after 0.6 s."""
    with av.open(str(path), "w") as file:
        picture = file.add_stream("mpeg4", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        rate = 48_000
        sound = file.add_stream(codec, rate=rate, layout="stereo")
        samples = np.random.default_rng(0).normal(0, 0.01, (2, rate))
        samples[:, 28_800:28_900] = 0.8 * np.sin(np.arange(100) / 3)
        packed = np.round(samples.T.reshape(1, -1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), "s16", "stereo")
        frame.sample_rate, frame.pts = rate, 0
        packets = [*sound.encode(frame), *sound.encode(None)]
        for _ in range(25):
            packets += picture.encode(av.VideoFrame(64, 48, "rgb24"))
        packets += picture.encode(None)
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            file.mux(packet)
    return path


def test_overlay_keeps_uneven_times_and_pads_odd_sizes(film, tmp_path) -> None:
    times = [0.0, 0.04, 0.1, 0.5, 0.51, 1.3]
    path = film("film.mkv", times=times, size=(95, 63), audio=None, video="ffv1")
    overlay = tmp_path / "overlay.mp4"
    draw_overlay(path, overlay, said(window(0, None)))
    frames = list(video_frames(overlay))
    assert [f.time_s for f in frames] == pytest.approx(times, abs=2e-3)
    assert frames[0].pixels.shape == (64, 96, 3)
    assert not media_info(overlay).has_audio


def test_overlay_of_a_folder_has_its_pictures(recognizer, tmp_path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(5):
        pixels = np.full((64, 96, 3), 100 + 9 * number, np.uint8)
        av.VideoFrame.from_ndarray(pixels, format="rgb24").save(str(folder / f"{number}.png"))
    overlay = tmp_path / "overlay.mp4"
    prediction = illustrate(recognizer, clip(folder), overlay=overlay)
    assert prediction.modality is Modality.VISUAL
    assert len(list(video_frames(overlay))) == 5
    assert media_info(overlay).duration_s == pytest.approx(0.2, abs=0.01)


def test_a_box_moves_between_the_places_of_a_track_and_is_gone_in_between() -> None:
    track = [FaceBox(t, (x, 0.0, x + 0.2, 0.4)) for t, x in ((1.0, 0.0), (1.4, 0.4), (3.0, 0.6))]
    assert box_at(track, 1.0) == (0.0, 0.0, 0.2, 0.4)
    assert box_at(track, 1.1) == pytest.approx((0.1, 0.0, 0.3, 0.4))
    assert box_at(track, 1.45) == track[1].box, "until the next picture"
    assert box_at(track, 3.0) == track[2].box
    assert [box_at(track, t) for t in (0.9, 1.6, 2.9, 3.2)] == [None] * 4
    assert box_at([], 1.0) is None


def drawn(overlay: Overlay, time_s: float) -> np.ndarray:
    """The pixels of a black frame that are drawn on."""
    return overlay.draw(VideoFrame(time_s, np.zeros((200, 300, 3), np.uint8))).any(axis=2)


def test_everybody_is_framed_with_a_text_of_their_own(monkeypatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(drawing, "_write", lambda draw, text, *place: written.append(text))
    clip = [window(0, "sad"), window(0.5, None), window(1, "happy")]
    places = ((0.1, 0.2, 0.3, 0.6), (0.6, 0.2, 0.8, 0.6))
    one, two = (
        Person(
            *(0.0, 3.0, Modality.VISUAL, "sad", {"sad": 0.8}, {}),
            number=number,
            is_main=number == 2,
            track=tuple(FaceBox(t / 2, box) for t in range(7)),
            timeline=(window(0, "happy"),),
        )
        for number, box in enumerate(places, start=1)
    )
    framed = drawn(Overlay(clip, [one, two]), 1.9)
    assert framed[40, 30:90].all(), "the upper edge of the first box"
    assert framed[40:120, 180].all(), "the left edge of the second one"
    assert not framed[60:100, 100:170].any()
    assert written == ["1: happy 0.80", "2: happy 0.80", "happy 0.80"], (
        "and the clip's in the corner"
    )
    written.clear()
    drawn(Overlay(clip, [replace(two, number=1)]), 1.0)
    assert written == ["sad 0.80"], "no number alone; the main one says what the clip says"
    written.clear()
    drawn(Overlay(clip, [one, two]), 1.5)
    assert written == ["1: happy 0.80", "2: happy 0.80", "nothing to go by"], "the clip has none"
    written.clear()
    drawn(Overlay(clip, [one, two]), 2.9)
    assert written[:2] == ["1: nothing to go by", "2: nothing to go by"], "after their last window"
    written.clear()
    drawn(Overlay(clip, []), 0.5)
    assert written == ["sad 0.80"], "where faces are not known it stands in the corner"


def test_nothing_is_said_of_a_face_that_is_not_in_sight(monkeypatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(drawing, "_write", lambda draw, text, *place: written.append(text))
    seen = window(0, "sad")
    track = (FaceBox(0.0, (0.1, 0.2, 0.3, 0.6)), FaceBox(0.4, (0.1, 0.2, 0.3, 0.6)))
    person = Person(0.0, 0.4, Modality.VISUAL, "sad", {"sad": 0.8}, {}, number=1, track=track)
    for timeline, time_s in (
        (seen, 0.2),
        (seen, 1.0),
        (replace(seen, modality=Modality.ACOUSTIC), 0.2),
        (replace(seen, modality=Modality.AUDIOVISUAL), 1.0),
        (window(0, None), 1.0),
        (seen, 9.0),
    ):
        drawn(Overlay([timeline], [person]), time_s)
    assert written == [
        "sad 0.80",
        "no face",
        "sad 0.80, from sound",
        "sad 0.80",
        "nothing to go by",
        "nothing to go by",
    ]


def test_title_and_legend_say_what_the_clip_says_and_a_picture_has_no_time(tmp_path) -> None:
    found = replace(said(window(0, "sad"), window(1, "happy")), probabilities={"sad": 0.746})
    plot_timeline(found, tmp_path / "plot.svg")
    text = "".join(ElementTree.parse(tmp_path / "plot.svg").getroot().itertext())
    assert "clip: sad 0.75" in text
    assert text.count("sad 0.75") == 2
    assert "time (s)" in text
    still = replace(found, timeline=(replace(window(0, "sad"), end_s=0.08),))
    plot_timeline(still, tmp_path / "plot.svg")
    text = "".join(ElementTree.parse(tmp_path / "plot.svg").getroot().itertext())
    assert "clip: sad 0.75" in text
    assert "time" not in text


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png", "SVG"])
def test_plot_is_written_in_every_known_form(tmp_path, suffix) -> None:
    path = tmp_path / f"plot.{suffix}"
    plot_timeline(said(window(0, "sad"), window(0.5, None, 0.0), window(1, "happy")), path)
    assert path.stat().st_size > 2000
    if suffix == "svg":
        text = "".join(ElementTree.parse(path).getroot().itertext())
        assert all(part in text for part in ("clip: sad 0.80, from the face", "happy", "67%"))


def test_unsure_is_written_and_stands_on_grey(tmp_path, monkeypatch) -> None:
    unsure = TimedPrediction(0.5, 2.5, Modality.VISUAL, UNSURE, {"sad": 0.4, "happy": 0.3}, {})
    written: list[str] = []
    monkeypatch.setattr(drawing, "_write", lambda draw, text, *place: written.append(text))
    drawn(Overlay([unsure]), 1.5)
    assert written == ["unsure"]
    plots = {}
    for middle in (unsure, window(0.5, "happy")):
        prediction = replace(said(window(0, "sad"), middle, window(1, "happy")), label=middle.label)
        plot_timeline(prediction, tmp_path / "plot.svg")
        root = ElementTree.parse(tmp_path / "plot.svg").getroot()
        text = " ".join(root.itertext())
        assert ("clip: unsure, from the face" in text) == (middle is unsure)
        shapes = [path.get("style") or "" for path in root.iter("{http://www.w3.org/2000/svg}path")]
        plots[middle.label] = sum(f"fill: {LINE}" in style for style in shapes)
    assert plots["unsure"] == plots["happy"] + 1


def test_plot_of_many_names_and_one_window(tmp_path) -> None:
    names = {f"<emotion & {n}>": n / 45 for n in range(10)}
    timed = TimedPrediction(0.0, 0.3, Modality.ACOUSTIC, "x", names, {"valence": 0.5})
    prediction = Prediction(
        "$a_{b$" * 30, Modality.ACOUSTIC, None, names, {"valence": 0.5}, timeline=(timed,)
    )
    plot_timeline(prediction, tmp_path / "plot.svg")
    text = "".join(ElementTree.parse(tmp_path / "plot.svg").getroot().itertext())
    assert "valence 0.50" in text
    assert "face" not in text


def test_what_cannot_be_drawn_is_refused_before_anything_is_predicted(film, tmp_path) -> None:
    sound = film("sound.wav", audio="pcm_s16le", video=None)
    picture = film()
    nobody: vavl.Recognizer = None  # type: ignore[assignment] - would fail if it were asked
    for path, options, message in (
        (picture, {"plot": tmp_path / "plot.gif"}, r"plot: .*\.pdf, \.png, \.svg, got 'plot.gif'"),
        (sound, {"overlay": tmp_path / "o.mp4"}, "overlay: .*sound.wav has no picture"),
        (picture, {"overlay": tmp_path / "o.avi"}, r"overlay: .*\.mp4, got 'o.avi'"),
        (picture, {"overlay": picture}, "overlay: expected another file"),
    ):
        with pytest.raises(InputError, match=message):
            illustrate(nobody, clip(path), **options)
    with pytest.raises(InputError, match="file alone"):
        illustrate(nobody, ClipFiles("a", visual=Path("a.visual.npy")), plot=tmp_path / "p.png")
    with pytest.raises(InputError, match="timeline"):
        plot_timeline(said(), tmp_path / "plot.png")
    with pytest.raises(MediaError, match="does not exist"):
        illustrate(nobody, clip(tmp_path / "none.mp4"), overlay=tmp_path / "o.mp4")
    assert {p.name for p in tmp_path.iterdir()} == {"film.mp4", "sound.wav"}


def test_a_film_cut_off_leaves_no_overlay(film, tmp_path) -> None:
    path = film("film.mkv", audio=None, video="ffv1", seconds=2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"film\.mkv"):
        draw_overlay(path, tmp_path / "o.mp4", said(window(0, "sad")))
    assert [p.name for p in tmp_path.iterdir()] == ["film.mkv"]


def test_pictures_of_many_clips_go_into_folders(recognizer, film, tmp_path) -> None:
    clips = [clip(film("a.mp4", seconds=1.0)), clip(film("a.wav", video=None, audio="pcm_s16le"))]
    plots, overlays, faces = tmp_path / "plots", tmp_path / "overlays", tmp_path / "faces"
    pictures = Pictures(plots, overlays, faces)
    assert pictures
    assert pictures.files == []
    for one, name in zip(clips, ("a", "a-2"), strict=True):
        prediction = pictures.drawing(recognizer, one, name)(one, timeline=False)
        assert prediction.timeline
    assert sorted(path.name for path in plots.iterdir()) == ["a-2.png", "a.png"]
    assert [path.name for path in overlays.iterdir()] == ["a.mp4"]  # a sound has no picture
    assert (faces / "a" / "faces.csv").is_file()
    alone = Pictures(tmp_path / "p.svg", tmp_path / "o.mp4", None)
    assert [path.name for path in alone.files] == ["p.svg", "o.mp4"]
    assert not Pictures(None, None, None)
    with pytest.raises(InputError, match="ends in"):
        Pictures(tmp_path / "p.gif", None, None)
