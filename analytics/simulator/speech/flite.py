"""flite in process, through ctypes: text in, 16-bit samples out."""

from __future__ import annotations

import ctypes

import numpy as np

from analytics.simulator.speech.espeak import SpeechEngineError


class _Wave(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class _Voice(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))


class Flite:
    """One flite engine with its voices loaded on first use."""

    def __init__(self) -> None:
        """Load the library from the loader's path. Raises SpeechEngineError when it is missing."""
        try:
            self._library = ctypes.CDLL("libflite.so.1")
        except OSError as error:
            raise SpeechEngineError("flite is not installed: apt-get install libflite1") from error
        self._library.flite_init()
        self._library.flite_text_to_wave.restype = ctypes.POINTER(_Wave)
        self._library.flite_text_to_wave.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
        self._library.delete_wave.argtypes = (ctypes.c_void_p,)
        self._library.feat_set_float.argtypes = (
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_float,
        )
        self._voices: dict[str, ctypes._Pointer[_Voice]] = {}

    def _voice(self, name: str) -> ctypes._Pointer[_Voice]:
        if name not in self._voices:
            try:
                register = ctypes.CDLL(f"libflite_cmu_us_{name}.so.1")[f"register_cmu_us_{name}"]
            except (OSError, AttributeError) as error:
                raise SpeechEngineError(f"flite has no voice {name!r}") from error
            register.restype = ctypes.POINTER(_Voice)
            register.argtypes = (ctypes.c_void_p,)
            self._voices[name] = register(None)
        return self._voices[name]

    def speak(
        self, text: str, voice: str, *, stretch: float, pitch: float = 1.0
    ) -> tuple[np.ndarray, int]:
        """Return (int16 samples [n], sample rate). `stretch` above 1 speaks slower, `pitch` above 1 higher.

        `voice` is one of slt, rms, kal, kal16, awb. Raises SpeechEngineError for another name.
        """
        loaded = self._voice(voice)
        for feature, value in ((b"duration_stretch", stretch), (b"f0_shift", pitch)):
            self._library.feat_set_float(loaded.contents.features, feature, value)
        wave = self._library.flite_text_to_wave(text.encode("ascii", "ignore"), loaded)
        if not wave:
            raise SpeechEngineError(f"flite failed on {text!r}")
        count = wave.contents.num_samples
        samples = np.ctypeslib.as_array(wave.contents.samples, (max(count, 1),))[:count].copy()
        rate = wave.contents.sample_rate
        self._library.delete_wave(wave)
        return samples, rate
