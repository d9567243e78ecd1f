"""The media guard: decode a recording once, and say in one word what is the matter with it.

Recordings are broken in practice: one side silent, both sides the same, cut short, gaps that shift every later time.
Nothing here guesses; each finding is a verdict that is stored on the recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from inference.speech.containers import is_cut_short

Verdict = Literal[
    "ok",
    "mono",
    "identical_channels",
    "silent_channel",
    "truncated",
    "too_long",
    "unsupported",
    "empty",
    "corrupt",
    "missing",
    "unreadable",
]

SAMPLE_RATE = 16_000  # what Whisper and the voice-activity model read
# A channel whose loudest sample stays under -50 dBFS carries line noise, not a voice.
SILENCE_PEAK = 10 ** (-50 / 20)
# Two channels are one when their difference is 40 dB below the louder of them: codecs leave that much behind.
IDENTICAL_RATIO = 10 ** (-40 / 20)
# Containers round durations to a frame or a second; more missing than this was cut off.
TRUNCATION_TOLERANCE_S = 1.0
LAST_BLOCK_S = 0.1
# Frames whose timestamp jumps ahead by more than this stand after a gap, which becomes silence.
GAP_TOLERANCE_S = 0.06


class UnusableRecordingError(Exception):
    """The recording cannot be transcribed. `verdict` says why in one word, the message in one line."""

    def __init__(self, verdict: Verdict, message: str) -> None:
        super().__init__(message)
        self.verdict: Verdict = verdict


@dataclass(frozen=True, slots=True)
class Recording:
    """A decoded recording: `audio` is float32 [channels, samples] at 16 kHz within [-1, 1], one or two channels."""

    audio: np.ndarray
    verdict: Verdict
    codec: str
    sample_rate: int  # as recorded, Hz
    channel_count: int  # as recorded
    silent_channels: tuple[int, ...]

    @property
    def duration_ms(self) -> int:
        """Length of the decoded audio."""
        return round(self.audio.shape[1] * 1000 / SAMPLE_RATE)


def read_recording(path: Path, *, max_seconds: float) -> Recording:
    """Decode `path` and judge it.

    Raises UnusableRecordingError with verdict missing, unreadable, empty, unsupported, corrupt or too_long. Every other
    finding (mono, identical_channels, silent_channel, truncated) is a verdict on the recording, which is still usable.
    """
    _require_readable(path)
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except av.error.FFmpegError as error:
        raise _unopenable(path, error) from error
    with container:
        stream = _audio_stream(path, container)
        _require_length(path, container, stream, max_seconds)
        declared_s = _declared_seconds(container, stream)
        audio, was_cut = _decode(path, container, stream, max_seconds)
        codec = stream.codec_context.codec.canonical_name
        sample_rate = stream.codec_context.sample_rate
    decoded_s = audio.shape[1] / SAMPLE_RATE
    missing_s = declared_s - decoded_s if declared_s is not None else 0.0
    # writers of block codecs leave a last block half full: an error there takes nothing away
    broke_off = was_cut and (declared_s is None or missing_s > LAST_BLOCK_S)
    is_truncated = broke_off or missing_s > TRUNCATION_TOLERANCE_S or is_cut_short(path)
    channel_count = audio.shape[0]
    silent = tuple(i for i, channel in enumerate(audio) if np.abs(channel).max() < SILENCE_PEAK)
    verdict = _judge(audio, silent, is_truncated)
    if verdict == "identical_channels" or (is_truncated and _are_identical(audio)):
        audio = audio[:1]
    return Recording(audio, verdict, codec, sample_rate, channel_count, silent)


def _require_readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except FileNotFoundError as error:
        raise UnusableRecordingError("missing", f"{path} does not exist any more") from error
    except OSError as error:
        raise UnusableRecordingError(
            "unreadable", f"{path} cannot be read: {error.strerror}"
        ) from error
    if is_empty:
        raise UnusableRecordingError("empty", f"{path} holds no bytes")


# First bytes of the containers we read: a file that starts so but does not open is damaged, not foreign.
_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b".snd")


def _unopenable(path: Path, error: av.error.FFmpegError) -> UnusableRecordingError:
    with path.open("rb") as file:
        head = file.read(12)
    if head.startswith(_MAGIC) or head[4:8] == b"ftyp":
        return UnusableRecordingError("corrupt", f"{path} has a damaged header: {error.strerror}")
    return UnusableRecordingError("unsupported", f"{path} is not a recording: {error.strerror}")


def _audio_stream(path: Path, container: InputContainer) -> AudioStream:
    if not container.streams.audio:
        raise UnusableRecordingError("unsupported", f"{path} holds no audio track")
    stream = container.streams.audio[0]
    if stream.codec_context.name is None or stream.codec_context.sample_rate <= 0:
        raise UnusableRecordingError("corrupt", f"{path} does not say how its audio is coded")
    channel_count = stream.codec_context.channels
    if channel_count not in (1, 2):
        raise UnusableRecordingError(
            "unsupported", f"{path} has {channel_count} channels; one or two are expected"
        )
    return stream


def _declared_seconds(container: InputContainer, stream: AudioStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration is not None else None


def _require_length(
    path: Path, container: InputContainer, stream: AudioStream, max_seconds: float
) -> None:
    declared_s = _declared_seconds(container, stream)
    if declared_s is not None and declared_s > max_seconds:
        raise _too_long(path, max_seconds)


def _too_long(path: Path, max_seconds: float) -> UnusableRecordingError:
    return UnusableRecordingError(
        "too_long",
        f"{path} is longer than {max_seconds / 60:g} minutes (AFTERCALL_MAX_CALL_MINUTES)",
    )


def _decode(
    path: Path, container: InputContainer, stream: AudioStream, max_seconds: float
) -> tuple[np.ndarray, bool]:
    """All audio as float32 [channels, samples] at 16 kHz, and whether decoding broke off."""
    resampler = av.AudioResampler(
        format="fltp", layout=stream.codec_context.layout, rate=SAMPLE_RATE
    )
    pieces: list[np.ndarray] = []
    num_samples = 0
    was_cut = False
    frames = _frames_with_gaps(container, stream)
    while True:
        try:
            frame = next(frames, None)
        except av.error.FFmpegError as error:
            if not pieces:
                raise UnusableRecordingError(
                    "corrupt", f"{path} cannot be decoded: {error.strerror}"
                ) from error
            was_cut = True
            frame = None
        for resampled in resampler.resample(frame):
            pieces.append(resampled.to_ndarray())
            num_samples += pieces[-1].shape[1]
        if frame is None:
            break
        if num_samples > max_seconds * SAMPLE_RATE:
            raise _too_long(path, max_seconds)
    if num_samples == 0:
        raise UnusableRecordingError("empty", f"{path} holds no sound: 0 seconds")
    audio = np.concatenate(pieces, axis=1).astype(np.float32, copy=False)
    if not np.isfinite(audio).all():
        raise UnusableRecordingError("corrupt", f"{path} holds samples that are not numbers (NaN)")
    return np.clip(audio, -1.0, 1.0), was_cut


def _frames_with_gaps(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """Decoded frames without timestamps, with silence where the container skips time.

    The resampler closes gaps, and every later turn would be early by their length.
    """
    expected_s: float | None = None
    for frame in container.decode(stream):
        start_s = frame.time
        if expected_s is not None and start_s is not None:
            gap_s = start_s - expected_s
            if gap_s > GAP_TOLERANCE_S:
                yield _silence_like(frame, round(gap_s * frame.sample_rate))
        if start_s is not None:
            expected_s = start_s + frame.samples / frame.sample_rate
        frame.pts = None
        yield frame


def _silence_like(frame: AudioFrame, num_samples: int) -> AudioFrame:
    zeros = np.zeros_like(frame.to_ndarray())
    per_sample = zeros.shape[1] // frame.samples  # 1 when planar, the channel count when packed
    silence = np.zeros((zeros.shape[0], num_samples * per_sample), dtype=zeros.dtype)
    if frame.format.name.startswith("u8"):
        silence += 128  # unsigned samples rest in the middle of their range
    filler = AudioFrame.from_ndarray(silence, format=frame.format.name, layout=frame.layout.name)
    filler.sample_rate = frame.sample_rate
    return filler


def _judge(audio: np.ndarray, silent: tuple[int, ...], is_truncated: bool) -> Verdict:
    if is_truncated:
        return "truncated"
    if audio.shape[0] == 1:
        return "mono"
    if silent:
        return "silent_channel"
    return "identical_channels" if _are_identical(audio) else "ok"


def _are_identical(audio: np.ndarray) -> bool:
    if audio.shape[0] == 1:
        return False
    left, right = audio
    difference = float(np.sqrt(np.mean((left - right) ** 2)))
    loudness = float(np.sqrt(max(np.mean(left**2), np.mean(right**2))))
    return loudness > 0 and difference < IDENTICAL_RATIO * loudness
