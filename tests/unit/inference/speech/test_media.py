"""The media guard on real files, written with the standard library and PyAV."""

import struct
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from inference.speech.media import SAMPLE_RATE, UnusableRecordingError, read_recording

RATE = 8_000


def tone(num_channels: int, seconds: float = 3.0) -> np.ndarray:
    """int16 [samples, channels], another pitch on each channel."""
    t = np.arange(int(RATE * seconds)) / RATE
    channels = [9_000 * np.sin(2 * np.pi * (300 + 200 * i) * t) for i in range(num_channels)]
    return np.stack(channels, axis=1).astype("<i2")


def write_wav(path: Path, samples: np.ndarray, sample_width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(sample_width)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return path


def encode(path: Path, codec: str, container: str, rate: int) -> Path:
    """A stereo tone of 3 s through one of FFmpeg's encoders."""
    t = np.arange(rate * 3) / rate
    samples = np.stack([0.3 * np.sin(2 * np.pi * f * t) for f in (300, 500)]).astype(np.float32)
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout="stereo",
            rate=rate,
            frame_size=stream.codec_context.frame_size or 1_024,
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return path


def verdict_of(path: Path, max_seconds: float = 60) -> str:
    try:
        return read_recording(path, max_seconds=max_seconds).verdict
    except UnusableRecordingError as error:
        return error.verdict if str(path) in str(error) else "a message that does not name the file"


@pytest.mark.parametrize(
    ("codec", "container", "suffix", "rate"),
    [
        ("flac", "flac", "flac", 8_000),
        ("libmp3lame", "mp3", "mp3", 16_000),
        ("libopus", "ogg", "ogg", 16_000),
        ("aac", "ipod", "m4a", 16_000),
        ("pcm_mulaw", "wav", "wav", 8_000),
        ("pcm_alaw", "wav", "wav", 8_000),
    ],
)
def test_the_formats_of_telephony_decode_to_two_channels_at_16_khz(
    tmp_path, codec, container, suffix, rate
):
    path = encode(tmp_path / f"call.{suffix}", codec, container, rate)
    recording = read_recording(path, max_seconds=60)
    assert recording.verdict == "ok"
    assert recording.channel_count == 2
    assert recording.audio.dtype == np.float32
    assert abs(recording.audio.shape[1] - 3 * SAMPLE_RATE) < 0.15 * SAMPLE_RATE  # AAC pads its ends
    loudest_hz = [np.abs(np.fft.rfft(c[:SAMPLE_RATE])).argmax() for c in recording.audio]
    assert loudest_hz == pytest.approx([300, 500], abs=2), "each channel kept its own sound"


@pytest.mark.parametrize("name", ["gsm.wav", "raw.gsm"])
def test_gsm(name):
    recording = read_recording(Path(__file__).parent / "data" / name, max_seconds=60)
    assert recording.verdict == "mono"
    assert recording.codec.startswith("gsm")
    assert 400 < recording.duration_ms < 700


def test_mono(tmp_path):
    assert verdict_of(write_wav(tmp_path / "a.wav", tone(1))) == "mono"


def test_eight_bits_are_enough(tmp_path):
    samples = (tone(2) / 256 + 128).astype("u1")
    assert verdict_of(write_wav(tmp_path / "a.wav", samples, sample_width=1)) == "ok"


def test_identical_channels_are_heard_once(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.repeat(tone(1), 2, axis=1))
    recording = read_recording(path, max_seconds=60)
    assert recording.verdict == "identical_channels"
    assert recording.audio.shape[0] == 1
    assert recording.channel_count == 2


def test_a_silent_channel_is_named(tmp_path):
    samples = tone(2)
    samples[:, 1] = 0
    recording = read_recording(write_wav(tmp_path / "a.wav", samples), max_seconds=60)
    assert (recording.verdict, recording.silent_channels) == ("silent_channel", (1,))


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_cut_off_data_keeps_what_is_there_and_says_so(tmp_path, suffix):
    codec, container = {
        "wav": ("pcm_s16le", "wav"),
        "flac": ("flac", "flac"),
        "mp3": ("libmp3lame", "mp3"),
        "ogg": ("libopus", "ogg"),
    }[suffix]
    path = encode(tmp_path / f"whole.{suffix}", codec, container, 16_000)
    assert verdict_of(path) == "ok"
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    recording = read_recording(cut, max_seconds=60)
    assert recording.verdict == "truncated"
    assert 500 < recording.duration_ms < 2_500


@pytest.mark.parametrize("num_bytes", [13, 20, 40])
def test_a_truncated_header_is_corrupt(tmp_path, num_bytes):
    path = write_wav(tmp_path / "a.wav", tone(2))
    path.write_bytes(path.read_bytes()[:num_bytes])
    assert verdict_of(path) == "corrupt"


def test_a_header_without_data_is_empty(tmp_path):
    assert verdict_of(write_wav(tmp_path / "a.wav", tone(2, seconds=0))) == "empty"


def test_no_bytes_at_all_is_empty(tmp_path):
    (tmp_path / "a.wav").touch()
    assert verdict_of(tmp_path / "a.wav") == "empty"


def test_text_in_disguise_is_unsupported(tmp_path):
    (tmp_path / "a.wav").write_text("Dear diary, today I renamed a file.\n" * 40)
    assert verdict_of(tmp_path / "a.wav") == "unsupported"


def test_three_channels_are_unsupported(tmp_path):
    assert verdict_of(write_wav(tmp_path / "a.wav", tone(3))) == "unsupported"


def test_nan_samples_are_corrupt(tmp_path):
    data = np.full(RATE, np.nan, "<f4").tobytes()
    header = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt "
    header += (
        struct.pack("<IHHIIHH", 16, 3, 1, RATE, RATE * 4, 4, 32)
        + b"data"
        + struct.pack("<I", len(data))
    )
    (tmp_path / "a.wav").write_bytes(header + data)
    assert verdict_of(tmp_path / "a.wav") == "corrupt"


def test_four_hours_are_too_long_and_cost_nothing(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(1, seconds=0))
    num_bytes = 4 * 3600 * RATE * 2
    header = bytearray(path.read_bytes())
    header[4:8], header[40:44] = struct.pack("<I", 36 + num_bytes), struct.pack("<I", num_bytes)
    path.write_bytes(header)
    with path.open("r+b") as file:
        file.truncate(44 + num_bytes)  # sparse: takes no room on disk
    assert verdict_of(path, max_seconds=180 * 60) == "too_long"


def test_missing_and_unreadable(tmp_path):
    assert verdict_of(tmp_path / "gone.wav") == "missing"
    assert verdict_of(tmp_path) == "unreadable"


def test_a_gap_in_the_timestamps_becomes_silence(tmp_path):
    path = tmp_path / "gap.mkv"
    samples = tone(2, seconds=1.0).T.copy()
    with av.open(str(path), "w", format="matroska") as output:
        stream = output.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        for start_s in (0.0, 4.0):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples.T.reshape(1, -1)), format="s16", layout="stereo"
            )
            frame.sample_rate = RATE
            frame.pts = int(start_s * RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    audio = read_recording(path, max_seconds=60).audio
    assert audio.shape[1] == pytest.approx(5 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)
    assert np.abs(audio[:, int(1.2 * SAMPLE_RATE) : int(3.8 * SAMPLE_RATE)]).max() < 1e-3
    assert np.abs(audio[:, int(4.2 * SAMPLE_RATE) :]).max() > 0.2
