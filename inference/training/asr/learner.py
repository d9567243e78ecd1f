"""What learns: model, CTC head and optimiser, and one step on windows of the pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from inference.training.asr.config import AsrTrainingConfig
from inference.training.asr.export import load_weights
from inference.training.asr.features import LogMel
from inference.training.asr.masking import mask_features, warp_features
from inference.training.asr.model import Whisper, WhisperShape
from inference.training.asr.pool import SpeechPool
from inference.training.asr.telephone import TelephoneLine, gather
from inference.training.asr.tokenizer import SpecialIds
from inference.training.asr.windows import CTC_ALPHABET, Batch, WindowPlanner


class Learner:
    """One run's weights and the draws they learn from; it knows no clock, only what fraction of the run is over."""

    def __init__(self, config: AsrTrainingConfig, tokenizer: Tokenizer) -> None:
        self.config = config
        self.device = torch.device(config.device)
        torch.manual_seed(config.seed)
        self.ids = SpecialIds.of(tokenizer)
        shape = WhisperShape(
            vocabulary=self.ids.size,
            width=config.width,
            heads=config.width // 64,
            encoder_layers=config.layers,
            decoder_layers=config.layers,
            feed_forward=4 * config.width,
        )
        self.model = Whisper(shape).to(self.device)
        self.ctc_head = nn.Linear(config.width, len(CTC_ALPHABET) + 1).to(self.device)
        trained = [*self.model.parameters(), *self.ctc_head.parameters()]
        self.parameters = [parameter for parameter in trained if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": [one for one in self.parameters if one.dim() >= 2],
                    "weight_decay": config.weight_decay,
                },
                {"params": [one for one in self.parameters if one.dim() < 2], "weight_decay": 0.0},
            ],
            lr=0.0,
            betas=(0.9, 0.98),
            eps=1e-6,
            fused=self.device.type == "cuda",
        )
        self.log_mel = LogMel(self.device)
        self.reseed(step=0)

    def reseed(self, step: int) -> None:
        """Draw windows and telephone lines anew, from the run's seed and this step."""
        seed = self.config.seed * 1_000_003 + step
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.line = TelephoneLine(self.device, self.generator)
        self.planner = WindowPlanner(self.ids, seed)

    def go_on_from(self, checkpoint: Path) -> None:
        """Take over the weights of a trained checkpoint of the same shape and tokenizer."""
        weights = load_weights(checkpoint)
        fixed = "encoder.embed_positions.weight"
        self.model.load_state_dict({fixed: self.model.state_dict()[fixed], **weights})

    def train_step(self, pool: SpeechPool, step: int, fraction: float) -> tuple[Tensor, Tensor]:
        """One update. Returns both losses, detached and still on the device."""
        stage = self.config.stage_at(fraction)
        batch = self.planner.batch(pool.view(), stage.windows, stage.seconds)
        decoder_loss, ctc_loss = self.losses(
            to_device(batch, self.device), pool, stage.seconds, fraction
        )
        (decoder_loss + self.config.ctc_weight_at(fraction) * ctc_loss).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate_at(step, fraction)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return decoder_loss.detach(), ctc_loss.detach()

    def losses(
        self, batch: Batch, pool: SpeechPool, seconds: float, fraction: float
    ) -> tuple[Tensor, Tensor]:
        """(cross-entropy of the decoder, CTC loss of the encoder; the latter 0 once switched off)."""
        num_windows = len(batch.frames)
        with torch.no_grad():
            clean = gather(pool.buffer, batch.placement, num_windows, int(seconds * 8_000))
            heard = self.line(clean, batch.sounds)
            power = self.log_mel.log_power(self.log_mel.upsample(heard))
            mel = self.log_mel.normalise(power, batch.headroom, batch.frames)
            if fraction >= self.config.mask_from:
                mel = mask_features(warp_features(mel, self.generator), self.generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            audio = self.model.encoder(mel, self.config.dropout)
            hidden = self.model.decoder(batch.inputs, audio, self.config.dropout)
            # index_select, not indexing: the gradient of the latter sorts.
            logits = self.model.logits(hidden.flatten(0, 1).index_select(0, batch.learned))
        decoder_loss = F.cross_entropy(
            logits.float(),
            batch.targets.flatten()[batch.learned],
            label_smoothing=self.config.label_smoothing,
        )
        if fraction >= self.config.ctc_until:
            return decoder_loss, torch.zeros((), device=self.device)
        scores = F.log_softmax(self.ctc_head(audio.float()), dim=-1).transpose(0, 1)
        ctc_loss = F.ctc_loss(
            scores,
            batch.letters,
            torch.full((num_windows,), scores.shape[0]),
            batch.letter_counts,
            reduction="none",
            zero_infinity=True,
        )
        # Per letter, but a window with little or no speech counts as if it held a slow speaker.
        letters = batch.letter_counts.clamp(min=scores.shape[0] // 8).to(self.device)
        return decoder_loss, (ctc_loss / letters).mean()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on the device, but for what CTC and the line read on the host; copies do not wait."""

    def move(tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(device, non_blocking=True)

    if device.type != "cuda":
        return batch
    placement = batch.placement
    return replace(
        batch,
        placement=replace(
            placement,
            window=move(placement.window),
            start=move(placement.start),
            source=move(placement.source),
            length=move(placement.length),
            source_length=move(placement.source_length),
            speed=move(placement.speed),
            gain=move(placement.gain),
        ),
        inputs=move(batch.inputs),
        targets=move(batch.targets),
        learned=move(batch.learned),
        frames=move(batch.frames),
        headroom=move(batch.headroom),
        letters=move(batch.letters),
    )
