"""espeak-ng in process, through ctypes: text in, 16-bit samples out."""

from __future__ import annotations

import ctypes
import os

import numpy as np

SAMPLE_RATE = 22_050
_SYNCHRONOUS = 2
_UTF8 = 1
_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7
_DONT_EXIT = 0x8000


class SpeechEngineError(RuntimeError):
    """A speech engine is missing, or refused a voice or a text."""


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak:
    """One espeak-ng engine. The library keeps global state: make one per process."""

    def __init__(self, library: str = "libespeak-ng.so.1") -> None:
        """Load the library from the loader's path; `ESPEAK_DATA_PATH` overrides where its data lies.

        Raises SpeechEngineError when library or data are missing.
        """
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise SpeechEngineError(
                "espeak-ng is not installed: apt-get install libespeak-ng1"
            ) from error
        data_path = os.environ.get("ESPEAK_DATA_PATH")
        rate = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, data_path.encode() if data_path else None, _DONT_EXIT
        )
        if rate != SAMPLE_RATE:
            raise SpeechEngineError(f"espeak-ng did not start (answer {rate}): no voice data?")
        self._chunks: list[bytes] = []
        # The library keeps the pointer: the callback must live as long as the engine.
        self._callback = _Callback(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)
        self._voice = ""

    def _collect(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _: object) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def speak(
        self, text: str, voice: str, *, words_per_minute: int, pitch: int, pitch_range: int
    ) -> np.ndarray:
        """Return int16 samples [n] at 22,050 Hz.

        `voice` is a file name under the data's lang/ with an optional variant, such as `gmw/en-US+f3`.
        Raises SpeechEngineError for an unknown voice.
        """
        if voice != self._voice:
            if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise SpeechEngineError(f"espeak-ng has no voice {voice!r}")
            self._voice = voice
        for parameter, value in (
            (_RATE, words_per_minute),
            (_PITCH, pitch),
            (_RANGE, pitch_range),
            (_WORD_GAP, 0),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        encoded = text.encode()
        answer = self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _UTF8, None, None
        )
        if answer != 0:
            raise SpeechEngineError(f"espeak-ng failed on {text!r} (answer {answer})")
        return np.frombuffer(b"".join(self._chunks), dtype=np.int16)
