"""Finds and loads pretrained weights: local, on the Hugging Face hub, or at an address."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vavl.errors import InputError, SetupError
from vavl.system.extras import extra

if TYPE_CHECKING:
    import torch

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_DOWNLOADED = ["config.json", "preprocessor_config.json", _WEIGHTS, _INDEX, "model-*.safetensors"]
_NO_EFFECT_ON_NUMBERS = frozenset(
    {
        *("_name_or_path", "architectures", "transformers_version"),
        *("dtype", "torch_dtype", "id2label", "label2id"),
    }
)


_may_fetch: ContextVar[bool] = ContextVar("may_fetch", default=True)


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Inside, weights are sought on this machine alone, caches included: no request is sent.

    For what a file says: nobody asked for the hubs and addresses that stand in it.
    """
    before = _may_fetch.set(False)
    try:
        yield
    finally:
        _may_fetch.reset(before)


@dataclass(frozen=True)
class Checkpoint:
    """A pretrained model on this machine."""

    source: str
    """Its address: an absolute folder, or ``org/name@commit`` on the hub."""
    folder: Path
    config: Mapping[str, Any]
    weight_files: tuple[Path, ...]
    """Its safetensors files, in the order of their names."""
    weights_sha256: str
    """Hash over the bytes of all weight files."""

    @property
    def model_type(self) -> str:
        """Architecture by the name that transformers gives it, e.g. ``"wav2vec2"``."""
        return str(self.config.get("model_type"))

    @property
    def preprocessor_config(self) -> Mapping[str, Any]:
        """Its ``preprocessor_config.json``; empty where there is none."""
        path = self.folder / "preprocessor_config.json"
        return _read_json(path, self.source) if path.is_file() else {}

    def config_sha256(self) -> str:
        """Hash of the settings: the same weights give other numbers with, say, other heads."""
        settings = {k: v for k, v in self.config.items() if k not in _NO_EFFECT_ON_NUMBERS}
        content = json.dumps([settings, dict(self.preprocessor_config)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def find_checkpoint(source: str, revision: str | None = None) -> Checkpoint:
    """Finds a checkpoint, and downloads it if it is on the hub and not in the cache yet.

    Cache, access token and offline mode are those of huggingface_hub: ``HF_HOME``, ``HF_TOKEN``,
    ``HF_HUB_OFFLINE``. Only safetensors weights are used, and no code of a checkpoint is run.

    Args:
        source: A folder, or a hub id ``org/name`` or ``org/name@revision``.
        revision: Branch, tag or commit on the hub. Default: ``main``; the commit that it means now
            is noted in :attr:`Checkpoint.source`.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise InputError(
                f"revision: {source} is a local folder, which has no revision; got {revision!r}"
            )
        folder = folder.resolve()
        return _read(folder, str(folder))
    if _looks_like_path(source):
        raise SetupError(f"{source}: expected a folder with a pretrained model; there is none")
    repository, _, pinned = source.partition("@")
    if pinned and revision not in (None, pinned):
        raise InputError(f"revision: {source!r} and revision={revision!r} contradict each other")
    folder = _download(repository, revision or pinned or None)
    return _read(folder, f"{repository}@{folder.name}")


def load_pretrained(
    checkpoint: Checkpoint, configuration: Any = None, *, optional: Sequence[str] = ()
) -> torch.nn.Module:
    """Loads a model of transformers in single precision, ready for inference.

    Args:
        checkpoint: Where the weights lie.
        configuration: In place of that of the checkpoint.
        optional: Parts of the names of tensors that may be missing, since nothing reads them. Any
            other missing tensor is an error: transformers would leave it at random values.
    """
    with extra("hub", "this encoder"):
        from transformers import AutoModel

    given = {} if configuration is None else {"config": configuration}
    with loading(checkpoint):
        model, info = AutoModel.from_pretrained(
            checkpoint.folder,
            **given,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    missing = [key for key in info["missing_keys"] if not any(part in key for part in optional)]
    refuse_missing(checkpoint, missing)
    return for_inference(model.float())


def for_inference(model: Any) -> torch.nn.Module:
    """The model in evaluation mode, without gradients."""
    model.eval().requires_grad_(False)
    return cast("torch.nn.Module", model)


def refuse_missing(checkpoint: Checkpoint, missing: list[str]) -> None:
    """Raises InputError if tensors of a checkpoint are missing."""
    if missing:
        raise SetupError(
            f"{checkpoint.source}: the weights lack {len(missing)} tensors of a "
            f"{checkpoint.model_type} encoder, e.g. {missing[0]}; is the checkpoint complete?"
        )


@contextmanager
def loading(checkpoint: Checkpoint) -> Iterator[None]:
    """Inside, transformers shows no progress bars and no reports; its errors become InputError."""
    with extra("hub", "this encoder"):
        import transformers

    logging: Any = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # transformers and safetensors raise a great many types
        raise SetupError(
            f"{checkpoint.source}: cannot load the weights ({type(error).__name__}: {error})"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def find_file(source: str, sha256: str | None = None) -> tuple[Path, str]:
    """Finds a single file of weights, and downloads it if it is not in the cache yet.

    The cache is that of torch (``TORCH_HOME``); with ``HF_HUB_OFFLINE`` nothing is downloaded.

    Args:
        source: A local file, or an address that begins with ``https://``.
        sha256: What the file's SHA-256 must be, in hexadecimal; needed for an address.

    Returns:
        The local file, and its SHA-256.
    """
    remote = source.startswith("https://")
    path = _downloaded(source, sha256) if remote else Path(source).expanduser().resolve()
    if not path.is_file():
        raise SetupError(f"{source}: expected a file with weights; there is none")
    found = _sha256((path,))
    if sha256 is not None and found != sha256.lower():
        raise SetupError(
            f"{path}: expected the SHA-256 {sha256}, got {found}; is this another file, or a "
            "damaged one? Remove it, or name the hash of the file that is meant."
        )
    return path, found


def _downloaded(address: str, sha256: str | None) -> Path:
    with extra("hub", "weights that are downloaded"):
        from huggingface_hub.constants import HF_HUB_OFFLINE
    from torch import hub

    if sha256 is None:
        raise InputError(f"sha256: expected the SHA-256 of {address}, got none")
    stem, _, suffix = address.rpartition("/")[2].rpartition(".")
    path = Path(hub.get_dir()) / "checkpoints" / f"{stem}-{sha256[:8]}.{suffix}"
    if path.is_file():
        return path
    advice = "check the connection and HF_HUB_OFFLINE, or give the file by its local path"
    if not _may_fetch.get():
        raise SetupError(
            f"{address}: not in {path.parent}, and nothing is fetched for what a file says; if you "
            f"trust it, save it as {path}"
        )
    if HF_HUB_OFFLINE:
        raise SetupError(f"{address}: not in {path.parent}, and offline mode is on; {advice}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        hub.download_url_to_file(address, str(path), hash_prefix=sha256)
    except (OSError, RuntimeError) as error:  # no connection; another hash
        raise SetupError(f"{address}: cannot be downloaded ({error}); {advice}") from error
    return path


def _looks_like_path(source: str) -> bool:
    return source.startswith((".", "~", "/")) or "\\" in source or source.count("/") > 1


def _download(repository: str, revision: str | None) -> Path:
    with extra("hub", "models of a hub"):
        from huggingface_hub import snapshot_download

    at = f" at revision {revision}" if revision else ""
    may_fetch = _may_fetch.get()
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=_DOWNLOADED,
                local_files_only=not may_fetch,
            )
        )
    # The hub's errors derive from these two; connection errors are OSErrors as well.
    except (OSError, ValueError) as error:
        if not may_fetch:
            pinned = f" --revision {revision}" if revision else ""
            raise SetupError(
                f"{repository}{at}: neither a local folder nor in the cache of the Hugging Face "
                "hub, and nothing is fetched for what a file says; if you trust it, run "
                f"`hf download {repository}{pinned}` first"
            ) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SetupError(
            f"{repository}{at}: neither a local folder nor available from the Hugging Face hub "
            f"({type(error).__name__}: {reason}). Check the name, the connection and "
            "HF_HUB_OFFLINE, or give a folder that holds the model."
        ) from error


def _read(folder: Path, source: str) -> Checkpoint:
    if not (folder / "config.json").is_file():
        raise SetupError(f"{source}: expected a transformers model, but it has no config.json")
    config = _read_json(folder / "config.json", source)
    if (folder / _WEIGHTS).is_file():
        names = [_WEIGHTS]
    elif (folder / _INDEX).is_file():
        shards = _read_json(folder / _INDEX, source).get("weight_map", {}).values()
        names = sorted(set(map(str, shards)))
    else:
        raise SetupError(
            f"{source}: expected safetensors weights ({_WEIGHTS} or {_INDEX}), found none. "
            "Weights in other formats can run code when they are loaded, and are not used: "
            "convert them with transformers' save_pretrained."
        )
    files = tuple(folder / name for name in names)
    # The names come from a downloaded file: they must not lead out of the folder.
    wrong = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if wrong or not files:
        raise SetupError(f"{source}: weight files named by {_INDEX} are missing: {wrong}")
    return Checkpoint(source, folder, config, files, _sha256(files))


def _read_json(path: Path, source: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SetupError(f"{source}: {path.name} is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise SetupError(f"{source}: {path.name}: expected a JSON object")
    return content


def _sha256(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
