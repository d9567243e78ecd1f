"""How good the records and transcripts are: pure functions over what is true and what was found."""

from analytics.evaluation.calls import EvaluatedCall, measure_calls, slot_kind
from analytics.evaluation.intervals import Bootstrap, Estimate, Measure, ratio, share
from analytics.evaluation.texts import WordErrors, rouge_l, word_errors, words_of

__all__ = [
    "Bootstrap",
    "Estimate",
    "EvaluatedCall",
    "Measure",
    "WordErrors",
    "measure_calls",
    "ratio",
    "rouge_l",
    "share",
    "slot_kind",
    "word_errors",
    "words_of",
]
