"""Makes the recordings that `aftercall demo` scores: `python -m workers.demo.make_recordings [CALL…]`.

Run by hand, and only when `calls.yaml` has changed: what it writes into `recordings/` is committed. It needs the two
speech engines (apt-get install libespeak-ng1 espeak-ng-data libflite1). Times and levels depend on the seed alone; the
engines themselves keep state between utterances, so the samples of two runs differ.

Every call is invented, and told in wordings of the simulator that the embedded models have been trained on, chosen by
hand so that each makes sense. With the recordings come `manifest.csv`, for ingest, and `truth.json`: what was said
when, the records that follow from it, and the verdict that the media guard must give.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Literal, cast

import av
import numpy as np
import yaml
from av.audio.stream import AudioStream
from pydantic import BaseModel, ConfigDict, model_validator

from analytics.lead_score import LEAD_RULE
from analytics.records import LeadFeatures, Sentiment, Summary
from analytics.simulator.speech.line import coloured_noise, telephone_band
from analytics.simulator.speech.synthesis import TELEPHONE_RATE, say
from analytics.simulator.speech.verbalise import verbalise
from analytics.simulator.speech.voices import TRAINING_VOICES
from analytics.simulator.speech.wav import write_wav

HERE = Path(__file__).parent
RECORDINGS = HERE / "recordings"
VOICES = {voice.label: voice for voice in TRAINING_VOICES}
SEED = 3
CHANNELS = ("agent", "caller")
# Container suffix → encoder and bits per second; a WAV is µ-law, as telephone systems write it.
CODECS: dict[str, tuple[str, int | None]] = {
    ".flac": ("flac", None),
    ".mp3": ("libmp3lame", 40_000),
    ".ogg": ("libopus", 32_000),
    ".m4a": ("aac", 40_000),
}
NOISE_DB = 34  # below speech
CROSSTALK_DB = 46
PEAKS = (0.7, 0.95)
COMFORT_NOISE = 0.0015  # of a line on which nobody speaks: -56 dBFS
# How long each waits before answering, in seconds; agents differ, as they do in practice.
ANSWERS_AFTER = {
    "front-desk": (0.5, 0.9),
    "leasing": (0.7, 1.2),
    "dispatch": (1.1, 1.9),
    "caller": (0.4, 1.0),
}
Planted = Literal["line_noise", "silent_caller", "mono", "truncated", "not_a_recording"]
VERDICTS = {
    None: "ok",
    "line_noise": "ok",
    "silent_caller": "silent_channel",
    "mono": "mono",
    "truncated": "truncated",
    "not_a_recording": "unsupported",
}
KEPT_OF_TRUNCATED = 0.66
ERROR_PAGE = (
    "<html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1></body></html>\n"
)


class Line(BaseModel):
    """One turn as scripted: `agent` or `caller` says a text, `wait` seconds after the turn before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    agent: str | None = None
    caller: str | None = None
    wait: float | None = None

    @model_validator(mode="after")
    def _one_speaker(self) -> Line:
        if (self.agent is None) == (self.caller is None):
            raise ValueError("a turn is the agent's or the caller's")
        return self

    @property
    def role(self) -> str:
        """Who speaks."""
        return "caller" if self.agent is None else "agent"

    @property
    def text(self) -> str:
        """What is said."""
        return self.agent or self.caller or ""


class Call(BaseModel):
    """A call as scripted. `records` names what a record does not leave unknown or empty; null when nobody speaks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    vertical: str
    business: str
    agent_id: str
    started_at: datetime
    planted: Planted | None = None
    seconds: float = 0  # of a line on which nobody speaks
    voices: dict[str, str] = {}
    turns: tuple[Line, ...] = ()
    records: dict[str, dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        """The external id: the file's name without its suffix."""
        return Path(self.file).stem


class Spoken(BaseModel):
    """A turn as it sounds in the recording."""

    role: str
    start_ms: int
    end_ms: int
    text: str


def read_calls() -> tuple[Call, ...]:
    """All calls, in the manifest's order."""
    script = yaml.safe_load((HERE / "calls.yaml").read_text(encoding="utf-8"))
    return tuple(Call.model_validate(entry) for entry in script)


def speak(call: Call) -> tuple[np.ndarray, tuple[Spoken, ...]]:
    """The call as float32 [2, n] at 8 kHz, agent on channel 0 and caller on channel 1, and its turns in time."""
    random = Random(f"{SEED} {call.name}")
    placed: list[tuple[Spoken, np.ndarray]] = []
    at_s = random.uniform(0.6, 1.2)
    for line in call.turns:
        voice = VOICES[call.voices[line.role]]
        # a fresh stream each time: a speaker keeps rate and pitch through the call
        manner = Random(f"{SEED} {call.agent_id if line.role == 'agent' else call.name}")
        samples = say(verbalise(line.text, random), voice, manner)
        if placed:
            usual = ANSWERS_AFTER[call.agent_id if line.role == "agent" else "caller"]
            at_s += random.uniform(*usual) if line.wait is None else line.wait
        end_s = at_s + len(samples) / TELEPHONE_RATE
        turn = Spoken(
            role=line.role, start_ms=round(at_s * 1000), end_ms=round(end_s * 1000), text=line.text
        )
        placed.append((turn, samples))
        at_s = end_s
    length_s = call.seconds or at_s + random.uniform(0.5, 1.0)
    audio = np.zeros((2, round(length_s * TELEPHONE_RATE)), np.float32)
    for turn, samples in placed:
        start = turn.start_ms * TELEPHONE_RATE // 1000
        audio[CHANNELS.index(turn.role), start : start + len(samples)] += samples
    return _through_line(call, audio, random), tuple(turn for turn, _ in placed)


def _through_line(call: Call, audio: np.ndarray, random: Random) -> np.ndarray:
    """Telephone band, a little of the other side, line noise; then what the recording is planted with."""
    rng = np.random.default_rng(random.getrandbits(64))
    heard = np.empty_like(audio)
    leaked = audio[::-1] * 10 ** (-CROSSTALK_DB / 20)
    for i_channel, samples in enumerate(audio + leaked):
        noise = 0.09 * 10 ** (-NOISE_DB / 20) if call.turns else COMFORT_NOISE
        line = telephone_band(samples + coloured_noise(samples.size, rng, 0.6) * noise)
        heard[i_channel] = line * (random.uniform(*PEAKS) / np.abs(line).max() if call.turns else 1)
    if call.planted == "silent_caller":
        heard[CHANNELS.index("caller")] = 0
    return heard.mean(axis=0, keepdims=True) if call.planted == "mono" else heard


def write(call: Call, audio: np.ndarray, path: Path) -> None:
    """Write a recording in the format that its name asks for, cut off where that is planted."""
    if path.suffix == ".wav":
        write_wav(path, audio)
    else:
        _encode(path, audio)
    if call.planted == "truncated":
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * KEPT_OF_TRUNCATED)])


def _encode(path: Path, audio: np.ndarray) -> None:
    codec, bit_rate = CODECS[path.suffix]
    layout = "mono" if len(audio) == 1 else "stereo"
    pcm = np.round(audio.T.reshape(1, -1) * 32_767).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = cast(AudioStream, container.add_stream(codec, rate=TELEPHONE_RATE, layout=layout))
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=layout)
        frame.sample_rate = TELEPHONE_RATE
        to_encoder = av.AudioResampler(
            format=stream.format.name,
            layout=layout,
            rate=stream.rate,
            frame_size=stream.codec_context.frame_size or 0,
        )
        for piece in (*to_encoder.resample(frame), *to_encoder.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def truth(call: Call, turns: Sequence[Spoken]) -> dict[str, Any]:
    """What is true of a recording."""
    told = call.records
    records: dict[str, Any] | None = None
    if told is not None:
        features = LeadFeatures.model_validate(_complete(LeadFeatures, told["lead_score"]))
        records = {
            "summary": Summary.model_validate(_complete(Summary, told["summary"])).model_dump(),
            "sentiment": Sentiment.model_validate(told["sentiment"]).model_dump(),
            "lead_score": features.model_dump(),
        }
        score = LEAD_RULE.score(features)
        records["score"] = {"score": score.score, "tier": score.tier}
    return {
        "verdict": VERDICTS[call.planted],
        "turns": [turn.model_dump() for turn in turns],
        "records": records,
    }


def _complete(record: type[BaseModel], told: dict[str, Any]) -> dict[str, Any]:
    """A record with what is not told: null where that is allowed, otherwise `unknown`."""
    blank = {
        name: None if type(None) in getattr(field.annotation, "__args__", ()) else "unknown"
        for name, field in record.model_fields.items()
    }
    return blank | told


def manifest_rows(calls: Sequence[Call]) -> Iterator[dict[str, str]]:
    """Rows for `aftercall ingest --manifest`."""
    for call in calls:
        yield {
            "path": call.file,
            "external_id": call.name,
            "agent_id": call.agent_id,
            "direction": "inbound",
            "started_at": call.started_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "metadata": json.dumps({"vertical": call.vertical, "business": call.business}),
        }


def main() -> None:
    """Make the recordings that are named, or all of them; manifest and truth are always brought up to date."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("calls", nargs="*", metavar="CALL", help="names of calls; all by default")
    wanted = set(options.parse_args().calls)
    calls = read_calls()
    RECORDINGS.mkdir(exist_ok=True)
    truth_path = RECORDINGS / "truth.json"
    known = json.loads(truth_path.read_text(encoding="utf-8")) if truth_path.exists() else {}
    told = {}
    for call in calls:
        if wanted and call.name not in wanted:
            told[call.name] = known[call.name]
        elif call.planted == "not_a_recording":
            (RECORDINGS / call.file).write_text(ERROR_PAGE)
            told[call.name] = truth(call, ())
        else:
            audio, turns = speak(call)
            write(call, audio, RECORDINGS / call.file)
            if call.planted == "truncated":
                end_ms = KEPT_OF_TRUNCATED * audio.shape[1] * 1000 / TELEPHONE_RATE
                turns = tuple(turn for turn in turns if turn.end_ms < end_ms)
            told[call.name] = truth(call, turns)
    truth_path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with (RECORDINGS / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        rows = list(manifest_rows(calls))
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
