"""The body of a request, written to files as it comes in, never held in memory as a whole."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from vavl.service.problems import Problem

_WRITTEN_BYTES = 2**18
"""Handed to the disk at once."""
_LONGEST_PAUSE_S = 30.0
"""Between two pieces of a body; a slower client gives up its place."""
_PASSED_OVER_BYTES = 2**26
"""Of a body that is not wanted; then the connection is closed."""
_LONGEST_TEXT = 1024
"""Bytes of a part that is not a file."""
_MOST_PARTS = 100
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_MEDIA = re.compile(r"(video|audio|image)/.*|application/(octet-stream|ogg|mp4|mxf)")


@dataclass
class Part:
    """A part of a form, or a body that is a file.

    Attributes:
        field: Name of the part.
        name: File name that the client sent; empty for a part that is text.
        path: Where the file is; None for text.
        text: Of a part that is no file.
    """

    field: str
    name: str = ""
    path: Path | None = None
    text: bytes = b""


async def receive(request: Request, folder: Path, most_bytes: int) -> list[Part]:
    """Writes the files of a request into a folder, under names of our own.

    Args:
        request: Of which nothing has been read.
        folder: Private and empty.
        most_bytes: Of the whole body.

    Raises:
        Problem: The body is too large, too slow, no form or media, or cut off; or the disk is full.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > most_bytes:
        raise _too_large(most_bytes)
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == b"multipart/form-data":
        if not (boundary := options.get(b"boundary")):
            raise Problem(400, "multipart/form-data: expected a boundary, got none")
        form = _Form(folder, boundary)
        await _write(request, form.write, most_bytes)
        return form.finished()
    if kind and not _MEDIA.fullmatch(kind.decode("latin-1").lower()):
        raise Problem(
            415,
            "Content-Type: expected multipart/form-data, a type of media such as video/mp4, or "
            f"application/octet-stream, got {kind.decode('latin-1')[:100]}",
        )
    name = request.query_params.get("name", "clip")
    part = Part("file", name, _path(folder, 0, name))
    with _writing(part) as file:
        await _write(request, file.write, most_bytes)
    return [part]


async def pass_over(request: Request) -> None:
    """Reads a body that nobody wants: many clients read an answer only when they have sent all."""
    with suppress(ClientDisconnect, TimeoutError):
        total = 0
        async with asyncio.timeout(_LONGEST_PAUSE_S):
            async for piece in request.stream():
                total += len(piece)
                if total > _PASSED_OVER_BYTES:
                    return


async def _write(request: Request, write: Callable[[bytes], object], most_bytes: int) -> None:
    """Hands the body on in pieces, in another thread, since disks may be slow."""
    total, waiting = 0, bytearray()
    stream = request.stream()
    try:
        while True:
            async with asyncio.timeout(_LONGEST_PAUSE_S):
                piece = await anext(stream, None)
            if piece is None:
                break
            total += len(piece)
            if total > most_bytes:
                raise _too_large(most_bytes)
            waiting += piece
            if len(waiting) >= _WRITTEN_BYTES:
                await asyncio.to_thread(write, bytes(waiting))
                waiting.clear()
        if waiting:
            await asyncio.to_thread(write, bytes(waiting))
    except TimeoutError:
        raise Problem(408, f"nothing came for {_LONGEST_PAUSE_S:g} s") from None
    except ClientDisconnect:
        raise Problem(400, "the body was cut off") from None
    except FormParserError as error:
        raise Problem(400, f"multipart/form-data: cannot be read ({error})") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Problem(507, "no space is left on the disk of the service") from None
        raise
    if not total:
        raise Problem(400, "the body is empty: expected a clip")


def _too_large(most_bytes: int) -> Problem:
    return Problem(413, f"expected at most {most_bytes / 2**20:g} MB; see --max-upload")


def _path(folder: Path, number: int, name: str) -> Path:
    """A name of our own; the ending helps FFmpeg to tell formats apart."""
    suffix = _SUFFIX.fullmatch(Path(name).suffix)
    return folder / f"{number}{suffix.group() if suffix else ''}"


def _writing(part: Part) -> BinaryIO:
    assert part.path is not None
    return part.path.open("xb")


class _Form:
    """Takes a form apart as it comes in."""

    def __init__(self, folder: Path, boundary: bytes) -> None:
        self._folder = folder
        self._parts: list[Part] = []
        self._file: BinaryIO | None = None
        self._header = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._is_whole = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_to_header,
                "on_header_value": self._add_to_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._open,
                "on_part_data": self._add,
                "on_part_end": self._close,
                "on_end": self._end,
            },
        )
        self.write = self._parser.write

    def finished(self) -> list[Part]:
        """All parts, when the body is there."""
        self._close()
        if not self._is_whole:
            raise Problem(400, "multipart/form-data: the body is cut off")
        return self._parts

    def _begin(self) -> None:
        if len(self._parts) == _MOST_PARTS:
            raise Problem(400, f"multipart/form-data: expected at most {_MOST_PARTS} parts")
        self._headers = {}

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        part = Part(options.get(b"name", b"").decode("utf-8", "replace"))
        if b"filename" in options:
            part.name = options[b"filename"].decode("utf-8", "replace")
            part.path = _path(self._folder, len(self._parts), part.name)
            self._file = _writing(part)
        self._parts.append(part)

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        part = self._parts[-1]
        part.text += data[start:end]
        if len(part.text) > _LONGEST_TEXT:
            raise Problem(400, f"{part.field}: expected a file, or at most {_LONGEST_TEXT} bytes")

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _end(self) -> None:
        self._is_whole = True
