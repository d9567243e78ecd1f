"""Word error rates during training: the training module's own greedy decoder on development sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer

from inference.training.asr.features import LogMel
from inference.training.asr.model import Whisper
from inference.training.asr.pool import SAMPLE_RATE, Spoken
from inference.training.asr.telephone import mu_law
from inference.training.asr.tokenizer import SpecialIds
from inference.training.asr.wer import WordErrors, count_errors

_LEAD = SAMPLE_RATE // 4
_WINDOW = 30 * SAMPLE_RATE
_MOST_TOKENS = 96


@torch.no_grad()
def transcribe_clips(
    model: Whisper, tokenizer: Tokenizer, log_mel: LogMel, clips: Sequence[np.ndarray]
) -> list[str]:
    """Texts of int16 clips at 8 kHz, each under 29 s, through µ-law, without timestamps."""
    device = model.decoder.embed_tokens.weight.device
    ids = SpecialIds.of(tokenizer)
    # As in use: a model that has learned on whole windows repeats itself on shorter ones.
    windows = torch.zeros(len(clips), _WINDOW)
    for window, clip in zip(windows, clips, strict=True):
        window[_LEAD : _LEAD + len(clip)] = torch.from_numpy(clip.astype(np.float32) / 32_768)
    frames = torch.tensor([(len(clip) + 2 * _LEAD) // 80 for clip in clips], device=device)
    power = log_mel.log_power(log_mel.upsample(mu_law(windows.to(device))))
    mel = log_mel.normalise(power, torch.zeros(len(clips), device=device), frames)
    was_training = model.training
    model.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        audio = model.encoder(mel, 0.0)
        tokens = torch.tensor([[ids.start, ids.no_timestamps]] * len(clips), device=device)
        for _ in range(_MOST_TOKENS):
            logits = model.logits(model.decoder(tokens, audio, 0.0)[:, -1])
            logits[:, ids.end + 1 :] = -torch.inf
            best = logits.argmax(-1).masked_fill((tokens == ids.end).any(1), ids.end)
            tokens = torch.cat((tokens, best[:, None]), dim=1)
            if bool((best == ids.end).all()):
                break
    model.train(was_training)
    return [
        tokenizer.decode([token for token in row if token < ids.end]).strip()
        for row in tokens[:, 2:].tolist()
    ]


def word_errors(
    model: Whisper, tokenizer: Tokenizer, log_mel: LogMel, utterances: Sequence[Spoken]
) -> WordErrors:
    """Errors over utterances, decoded in one batch."""
    texts = transcribe_clips(model, tokenizer, log_mel, [one.samples for one in utterances])
    return count_errors(zip((one.text for one in utterances), texts, strict=True))


def word_error_rates(
    model: Whisper,
    tokenizer: Tokenizer,
    log_mel: LogMel,
    dev_sets: Mapping[str, Sequence[Spoken]],
) -> dict[str, float]:
    """Word error rates by set, in per cent."""
    return {
        name: round(100 * word_errors(model, tokenizer, log_mel, utterances).rate, 2)
        for name, utterances in dev_sets.items()
    }
