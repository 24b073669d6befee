"""A prediction in Python and in a notebook: in one line, as HTML, as a table, as pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import vavl
from vavl.errors import InputError
from vavl.inference import ClipFiles, ClipPrediction
from vavl.media.container import media_info
from vavl.types import Modality, Person, Prediction, Segment, TimedPrediction

NASTY = "<script>alert(\"&')</script>"
FOUND = {"sad": 0.71234567890123456, "happy": 0.28765432109876544}


def window(start_s: float, modality: Modality | None = Modality.VISUAL) -> TimedPrediction:
    found = FOUND if modality else {}
    label = "sad" if modality else None
    return TimedPrediction(start_s, start_s + 2, modality, label, found, {}, 0.5)


def person(number: int, **options: object) -> Person:
    found = (Modality.VISUAL, "sad", FOUND, {}, 0.75)
    return Person(0.0, 3.0, *found, number=number, timeline=(window(0),), **options)  # type: ignore[arg-type]


def clip(name: str = "clip.mp4", **options: object) -> ClipPrediction:
    said = Segment(0.5, 2.0, Modality.ACOUSTIC, "sad", FOUND, {}, speaker=name, text=name)
    everything = {
        "duration_s": 3.0,
        "face_share": 0.9,
        "warnings": (name,),
        "timeline": (window(0), window(0.5, None), window(1)),
        "people": (person(1, is_main=True), person(2)),
        "segments": (said,),
        "speakers": {name: Prediction(name, Modality.ACOUSTIC, "sad", FOUND, {}, 1.5)},
    }
    return ClipPrediction(
        name, Modality.AUDIOVISUAL, "sad", FOUND, {"valence": 0.25}, **{**everything, **options}
    )


class Page(HTMLParser):
    """Tags that are open, all tags, and the text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def test_everything_is_one_short_line() -> None:
    whole = clip()
    assert repr(whole) == (
        "<ClipPrediction 'clip.mp4': sad 0.71, valence 0.25, from sound and face, 3.0 s, "
        "2 people, 3 windows, 1 segment, 1 warning>"
    )
    assert repr(whole.timeline[0]) == "<TimedPrediction, 0.00-2.00 s: sad 0.71, from the face>"
    assert repr(whole.timeline[1]) == "<TimedPrediction, 0.50-2.50 s: nothing to go by>"
    assert repr(whole.people[0]).startswith("<Person 1 (main), 0.00-3.00 s: sad 0.71")
    assert repr(whole.segments[0]).startswith("<Segment of 'clip.mp4', 0.50-2.00 s: sad 0.71")
    assert "\n" not in repr(clip("a\nb")) + repr(clip("a\nb").segments[0])
    only_attributes = Prediction("a", Modality.ACOUSTIC, None, {}, {"arousal": 0.5})
    assert repr(only_attributes) == "<Prediction 'a': arousal 0.50, from sound>"


def test_a_recogniser_says_what_it_tells_and_takes(recognizer: vavl.Recognizer) -> None:
    assert repr(recognizer) == (
        "<Recognizer vavl: angry, happy, sad, valence; from sound or a face; cpu>"
    )


def test_as_html_it_is_well_formed_and_nothing_of_a_file_is_markup() -> None:
    page = Page(clip(NASTY)._repr_html_())
    assert page.open == []
    assert "script" not in page.tags
    # Name, warning, speaker and text of the segment, speaker.
    assert page.text.count(NASTY) == 5
    assert {"svg", "polyline", "circle", "table"} & set(page.tags) == {"svg", "circle", "table"}
    assert "sad" in page.text
    assert "valence" in page.text
    assert "0.71" in page.text
    assert page.text.count("from the face") == 2  # the people


def test_as_html_lines_are_broken_where_nothing_is_known_and_a_long_clip_is_small() -> None:
    known = [window(k / 2) for k in range(3)]
    broken = clip(timeline=(*known, window(2, None), *known))._repr_html_()
    assert broken.count("<polyline") == 2 * 2  # categories times runs
    day = clip(timeline=tuple(window(k / 2) for k in range(7_200)), segments=clip().segments * 90)
    page = day._repr_html_()
    assert len(page) < 60_000
    assert "and 70 more" in page
    assert page.count("<polyline") == 2
    assert page.count("<title>face seen 50%</title>") == 300


def test_as_html_a_clip_without_anything_special_is_bars_alone() -> None:
    plain = ClipPrediction("a.wav", Modality.ACOUSTIC, "sad", FOUND, {})
    page = Page(plain._repr_html_())
    assert {"svg", "table"}.isdisjoint(page.tags)
    assert plain.confidence == pytest.approx(0.712, abs=1e-3)


def test_json_has_a_version_and_tells_no_folder() -> None:
    content = clip(path=Path("/home/ann/clip.mp4")).to_dict()
    assert "/home" not in json.dumps(content)
    assert content["schema_version"] == 1
    assert set(content) == {*Prediction.__dataclass_fields__, "schema_version"}


def test_as_a_table_of_pandas() -> None:
    whole = clip()
    frame = whole.to_frame()
    assert list(frame.loc[0, ["clip", "label", "happy", "valence"]]) == [
        *("clip.mp4", "sad", FOUND["happy"], 0.25)
    ]
    windows = whole.to_frame("timeline")
    # Three of the clip, then one of each person.
    assert windows["start_s"].tolist() == [0, 0.5, 1, 0, 0]
    assert windows["person"].isna().tolist() == [True] * 3 + [False] * 2
    assert windows["sad"].isna().tolist() == [False, True, False, False, False]
    assert whole.to_frame("people")["person"].tolist() == [1, 2]
    assert whole.to_frame("segments")["text"].tolist() == ["clip.mp4"]
    assert whole.to_frame("speakers")["duration_s"].tolist() == [1.5]
    nobody = replace(whole, people=()).to_frame("people")
    assert (len(nobody), list(nobody)) == (0, ["clip", "person"])
    with pytest.raises(InputError, match="of: expected one of clip, timeline"):
        whole.to_frame("words")  # type: ignore[arg-type]


def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(InputError, match=r"pandas: needed for to_frame.*'vavl\[notebook\]'"):
        clip().to_frame()


def test_a_prediction_of_a_film_draws_itself(
    recognizer: vavl.Recognizer, film, tmp_path: Path
) -> None:
    path = film(seconds=1.0)
    found = recognizer.predict(path, timeline=True)
    assert found.path == path
    figure = found.plot()
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    found.plot(tmp_path / "plot.svg")
    assert "film.mp4" in (tmp_path / "plot.svg").read_text(encoding="utf-8")
    overlay = found.save_overlay(tmp_path / "overlay.mp4")
    assert media_info(overlay).has_video
    with pytest.raises(InputError, match="predict with timeline=True"):
        recognizer.predict(path).plot()
    arrays = recognizer.predict(audio=np.sin(np.arange(16_000, dtype=np.float32)), timeline=True)
    with pytest.raises(InputError, match="expected a prediction of a file"):
        arrays.save_overlay(tmp_path / "o.mp4")


def test_a_list_gives_a_list_and_a_generator_one_at_a_time(
    recognizer: vavl.Recognizer, film
) -> None:
    path = film(seconds=1.0)
    samples = np.sin(np.arange(16_000, dtype=np.float32) ** 1.5)
    clips = [str(path), path, ClipFiles("a", media=path), {"audio": samples, "name": "tone"}]
    found = recognizer.predict(clips, timeline=True)
    assert [one.name for one in found] == ["film.mp4", "film.mp4", "a", "tone"]
    assert replace(found[2], name="film.mp4") == found[0] == found[1]
    assert found[0] == recognizer.predict(path, timeline=True)
    assert recognizer.predict(tuple(clips))[3].modality is Modality.ACOUSTIC
    taken = []

    def one_by_one():
        for one in clips:
            taken.append(one)
            yield one

    several = recognizer.predict(one_by_one())
    assert taken == []
    assert next(several).name == "film.mp4"
    assert len(taken) == 1
    assert recognizer.predict([]) == []
    with pytest.raises(InputError, match="several; give each as a mapping"):
        recognizer.predict([path], name="a")
    with pytest.raises(InputError, match="expected files, ClipFiles or mappings, got int"):
        recognizer.predict([3])  # type: ignore[type-var]
