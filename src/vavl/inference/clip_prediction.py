"""What a recogniser says of a clip: a prediction that shows itself, as HTML, table or picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vavl.errors import InputError
from vavl.inference.tables import Rows, to_frame
from vavl.types import Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class ClipPrediction(Prediction):
    """A prediction for a clip, which knows where the clip lies.

    In a notebook it is shown with bars, its timeline, people, sentences and warnings.

    Attributes:
        path: The file or the folder of frames that was predicted; None for arrays and features. It
            is no part of :meth:`to_dict`, which may be for people to whom our folders say nothing.
    """

    path: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """As :meth:`vavl.Prediction.to_dict`."""
        content = super().to_dict()
        del content["path"]
        return content

    def to_frame(self, of: Rows = "clip") -> DataFrame:
        """A table of pandas, with the columns that ``vavl predict --out`` writes.

        Args:
            of: ``"clip"``: one row; ``"timeline"``: a row for each window, and for each window of
                each person where there are several; ``"people"``, ``"segments"``, ``"speakers"``: a
                row for each of them.

        Raises:
            InputError: pandas is not installed, or ``of`` is something else.

        Example:
            >>> from vavl.types import Modality
            >>> found = ClipPrediction("a.wav", Modality.ACOUSTIC, "sad", {"sad": 1.0}, {})
            >>> list(found.to_frame()["label"])
            ['sad']
        """
        return to_frame([(self.name, asdict(self))], of)

    def plot(self, path: Path | str | None = None) -> Figure:
        """Draws probabilities, attributes and faces over time.

        Args:
            path: Where to write the picture as well: PNG, SVG or PDF.

        Returns:
            The figure, which a notebook shows.

        Raises:
            InputError: Another ending, or the prediction was made without ``timeline=True``.
            MediaError: The file cannot be written.
        """
        from vavl.inference.drawing import plot_timeline, timeline_figure

        if path is not None:
            return plot_timeline(self, Path(path))
        return timeline_figure(self)

    def save_overlay(self, path: Path | str) -> Path:
        """Writes the video again, with every face framed and the emotion beside it.

        Args:
            path: Where to write; ends in ``.mp4``.

        Returns:
            The path.

        Raises:
            InputError: The prediction is not of a file with a picture, or was made without
                ``timeline=True``, or the path has another ending.
            MediaError: The clip has gone, or the file cannot be written.
        """
        from vavl.inference.drawing import draw_overlay

        draw_overlay(self._file("save_overlay"), Path(path), self)
        return Path(path)

    def save_faces(self, folder: Path | str) -> Path:
        """Writes each face every half second that it is in sight, and a table of their boxes.

        Args:
            folder: Where ``person-1-00000.000.png`` and so on go, and ``faces.csv``: file, person,
                is_main, time_s, and the box as in :class:`vavl.types.FaceBox`.

        Returns:
            The folder.

        Raises:
            InputError: The prediction is not of a file.
            MediaError: The clip has gone.
        """
        from vavl.inference.crops import save_crops

        save_crops(self._file("save_faces"), self.people, Path(folder))
        return Path(folder)

    def _file(self, purpose: str) -> Path:
        if self.path is None:
            raise InputError(
                f"{purpose}: expected a prediction of a file, got one of arrays; predict a video"
            )
        return self.path

    def _repr_html_(self) -> str:
        from vavl.inference.notebook import prediction_html

        return prediction_html(self)
