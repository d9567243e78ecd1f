"""Checkpoint directories: find or download one, load its tensors straight to the device, write one in shards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from inference.diffusion.config import LladaConfig
from inference.diffusion.model import LladaModel

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CHECKPOINT_PATTERNS = ("*.safetensors", "*.json", "*.jinja")


class CheckpointError(ValueError):
    """A checkpoint cannot be found, or its tensors are missing, misshapen or unknown."""


def resolve_checkpoint(source: str | Path, *, revision: str | None = None) -> Path:
    """The local directory of a checkpoint, given as a directory or as a hub id (`owner/name`), which is downloaded.

    Raises:
        CheckpointError: neither an existing directory nor a hub id, or the hub does not have it.
    """
    directory = Path(source)
    if directory.is_dir():
        return directory
    name = str(source)
    if name.count("/") != 1 or name.startswith(("/", ".", "~")):
        raise CheckpointError(f"{name} is neither a directory nor a hub id of the form owner/name")
    try:
        # Imported here: the hub client is needed only by installations that download.
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ImportError as error:
        raise CheckpointError(
            f"{name} must be downloaded, but huggingface_hub is not installed"
        ) from error
    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=list(CHECKPOINT_PATTERNS))
        )
    except HFValidationError as error:
        raise CheckpointError(f"{name} is no hub id: {error}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise CheckpointError(f"{name} could not be downloaded: {error}") from error


def load_model(
    directory: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> LladaModel:
    """Load a checkpoint directory.

    Args:
        directory: holds `config.json` and `model.safetensors`, or shards with `model.safetensors.index.json`.
        device: where every tensor is read to, one at a time.
        dtype: what to convert the weights to; as stored if not given.

    Raises:
        ConfigError: the config is missing or not supported.
        CheckpointError: a tensor is missing, misshapen or unknown; the message names it.
    """
    config = LladaConfig.load(directory)
    with torch.device("meta"):
        model = LladaModel(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors = _read_tensors(directory, shapes, str(torch.device(device)), dtype)
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def tensor_files(directory: Path) -> dict[str, Path]:
    """Which safetensors file of a checkpoint directory holds each tensor.

    Raises:
        CheckpointError: there are no weights, or the index names a file that is not there.
    """
    index_path = directory / INDEX_FILE
    if index_path.exists():
        try:
            weight_map = json.loads(index_path.read_text(encoding="utf-8"))["weight_map"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise CheckpointError(f"{index_path} has no readable weight_map") from error
        files = {name: directory / file for name, file in weight_map.items()}
        absent = sorted({path.name for path in files.values() if not path.exists()})
        if absent:
            raise CheckpointError(f"{directory} lacks {', '.join(absent)}, named by {INDEX_FILE}")
        return files
    single = directory / SINGLE_FILE
    if not single.exists():
        raise CheckpointError(f"{directory} has neither {SINGLE_FILE} nor {INDEX_FILE}")
    with _open(single, "cpu") as handle:
        return dict.fromkeys(handle.keys(), single)


def save_model(
    directory: Path,
    config: LladaConfig,
    tensors: Mapping[str, Tensor],
    *,
    max_shard_bytes: int = 15 * 2**20,
) -> None:
    """Write `config.json` and the tensors as `model-0000k-of-0000n.safetensors` with their index.

    Shards are filled in order up to `max_shard_bytes`, so that each stays small enough for an ordinary git host.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Tensor]] = [{}]
    shard_bytes = total_bytes = 0
    for name, tensor in tensors.items():
        num_bytes = tensor.numel() * tensor.element_size()
        if shards[-1] and shard_bytes + num_bytes > max_shard_bytes:
            shards.append({})
            shard_bytes = 0
        shards[-1][name] = tensor.detach().cpu().contiguous()
        shard_bytes += num_bytes
        total_bytes += num_bytes
    for stale in directory.glob("model*.safetensors"):
        stale.unlink()
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file_name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, directory / file_name, metadata={"format": "pt"})
        (directory / file_name).chmod(
            0o644
        )  # the library writes files that only their owner can read
        weight_map.update(dict.fromkeys(shard, file_name))
    index = {
        "metadata": {"total_size": total_bytes},
        "weight_map": dict(sorted(weight_map.items())),
    }
    _write_json(directory / INDEX_FILE, index)
    _write_json(directory / "config.json", config.to_dict())


def _read_tensors(
    directory: Path, shapes: Mapping[str, tuple[int, ...]], device: str, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    files = tensor_files(directory)
    _refuse("lacks", directory, shapes.keys() - files.keys())
    _refuse("has unknown tensors", directory, files.keys() - shapes.keys())
    tensors: dict[str, Tensor] = {}
    with ExitStack() as stack:
        handles = {path: stack.enter_context(_open(path, device)) for path in set(files.values())}
        for name, shape in shapes.items():
            if name not in handles[files[name]].keys():  # noqa: SIM118 - the handle is no mapping
                raise CheckpointError(f"{files[name]} lacks {name}, which the index puts there")
            stored = tuple(handles[files[name]].get_slice(name).get_shape())
            if stored != shape:
                raise CheckpointError(
                    f"{name} in {files[name]} has shape {stored}, the config needs {shape}"
                )
            tensor = handles[files[name]].get_tensor(name)
            tensors[name] = tensor if dtype is None else tensor.to(dtype)
    return tensors


def _open(path: Path, device: str) -> safe_open:
    try:
        return safe_open(path, framework="pt", device=device)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def _refuse(what: str, directory: Path, names: Iterable[str]) -> None:
    found = sorted(names)
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise CheckpointError(f"{directory} {what}: {', '.join(found[:5])}{more}")


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
