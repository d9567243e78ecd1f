"""From recordings to utterances: the media guard decides, voice activity finds speech, Whisper writes it down."""

from inference.speech.media import Recording, UnusableRecordingError, Verdict, read_recording
from inference.speech.recognizer import SpeechRecognizer, Utterance

__all__ = [
    "Recording",
    "SpeechRecognizer",
    "UnusableRecordingError",
    "Utterance",
    "Verdict",
    "read_recording",
]
