"""Whisper's architecture, lean, with Hugging Face's parameter names.

Differs from transformers' module in three ways that matter for training from scratch: windows of any length up to 30 s,
the convolutions written as matrix products, and attention through torch's fused kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class WhisperShape:
    """Sizes of a Whisper model. `max_source_positions` is encoder positions (1,500 for 30 s)."""

    vocabulary: int
    width: int = 384
    heads: int = 6
    encoder_layers: int = 4
    decoder_layers: int = 4
    feed_forward: int = 1_536
    mels: int = 80
    max_source_positions: int = 1_500
    max_target_positions: int = 448


def sinusoids(length: int, channels: int) -> Tensor:
    """Whisper's fixed encoder positions [length, channels]."""
    steps = math.log(10_000) / (channels // 2 - 1)
    inverse = torch.exp(-steps * torch.arange(channels // 2))
    scaled = torch.arange(length)[:, None] * inverse[None, :]
    return torch.cat([scaled.sin(), scaled.cos()], dim=1)


class Norm(nn.LayerNorm):
    """LayerNorm that keeps its input's precision: autocast would widen every activation to float32 and back."""

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., width] → the same."""
        with torch.autocast(hidden.device.type, enabled=False):
            dtype = hidden.dtype
            return F.layer_norm(
                hidden, self.normalized_shape, self.weight.to(dtype), self.bias.to(dtype), self.eps
            )


class Attention(nn.Module):
    """Multi-head attention; keys have no bias, as in Whisper."""

    def __init__(self, shape: WhisperShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.k_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.width)
        self.q_proj = nn.Linear(shape.width, shape.width)
        self.out_proj = nn.Linear(shape.width, shape.width)

    def forward(self, hidden: Tensor, source: Tensor, causal: bool) -> Tensor:
        """hidden [batch, n, width] attends to source [batch, m, width]."""

        def split(projected: Tensor) -> Tensor:
            return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        attended = F.scaled_dot_product_attention(
            split(self.q_proj(hidden)),
            split(self.k_proj(source)),
            split(self.v_proj(source)),
            is_causal=causal,
        )
        output: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return output


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, shape: WhisperShape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.self_attn_layer_norm = Norm(shape.width)
        self.fc1 = nn.Linear(shape.width, shape.feed_forward)
        self.fc2 = nn.Linear(shape.feed_forward, shape.width)
        self.final_layer_norm = Norm(shape.width)

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """The block's second half, without its residual."""
        output: Tensor = self.fc2(F.gelu(self.fc1(self.final_layer_norm(hidden))))
        return output

    def forward(self, hidden: Tensor, dropout: float) -> Tensor:
        """[batch, n, width] → the same."""
        normed = self.self_attn_layer_norm(hidden)
        hidden = hidden + F.dropout(self.self_attn(normed, normed, False), dropout, self.training)
        return hidden + F.dropout(self.feed_forward(hidden), dropout, self.training)


class DecoderLayer(EncoderLayer):
    """Causal self-attention, attention to the audio, feed-forward."""

    def __init__(self, shape: WhisperShape) -> None:
        super().__init__(shape)
        self.encoder_attn = Attention(shape)
        self.encoder_attn_layer_norm = Norm(shape.width)

    def decode(self, hidden: Tensor, audio: Tensor, dropout: float) -> Tensor:
        """[batch, n, width] with audio [batch, m, width] → the same."""
        normed = self.self_attn_layer_norm(hidden)
        hidden = hidden + F.dropout(self.self_attn(normed, normed, True), dropout, self.training)
        crossed = self.encoder_attn(self.encoder_attn_layer_norm(hidden), audio, False)
        hidden = hidden + F.dropout(crossed, dropout, self.training)
        return hidden + F.dropout(self.feed_forward(hidden), dropout, self.training)


class Encoder(nn.Module):
    """Two convolutions, then transformer layers."""

    def __init__(self, shape: WhisperShape) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(shape.mels, shape.width, 3, padding=1)
        self.conv2 = nn.Conv1d(shape.width, shape.width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding.from_pretrained(
            sinusoids(shape.max_source_positions, shape.width), freeze=True
        )
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.layer_norm = Norm(shape.width)

    @staticmethod
    def _convolve(frames: Tensor, convolution: nn.Conv1d, stride: int) -> Tensor:
        """A width-3 convolution over [batch, n, channels] as one matrix product."""
        padded = F.pad(frames, (0, 0, 1, 1))
        count = frames.shape[1]
        triples = torch.cat(
            [padded[:, shift : shift + count : stride] for shift in range(3)], dim=-1
        )
        weight = convolution.weight.permute(0, 2, 1).flatten(1)
        return F.gelu(F.linear(triples, weight, convolution.bias))

    def forward(self, mel: Tensor, dropout: float) -> Tensor:
        """mel [batch, mels, frames] → [batch, frames / 2, width]."""
        hidden = self._convolve(mel.transpose(1, 2), self.conv1, 1)
        hidden = self._convolve(hidden, self.conv2, 2)
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]].to(hidden.dtype)
        hidden = F.dropout(hidden, dropout, self.training)
        for layer in self.layers:
            hidden = layer(hidden, dropout)
        output: Tensor = self.layer_norm(hidden)
        return output


class Decoder(nn.Module):
    """Token and position embeddings, then transformer layers."""

    def __init__(self, shape: WhisperShape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.embed_positions = nn.Embedding(shape.max_target_positions, shape.width)
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.decoder_layers))
        self.layer_norm = Norm(shape.width)

    def forward(self, tokens: Tensor, audio: Tensor, dropout: float) -> Tensor:
        """tokens int64 [batch, n], audio [batch, m, width] → [batch, n, width]."""
        hidden = self.embed_tokens(tokens) + self.embed_positions.weight[: tokens.shape[1]]
        hidden = F.dropout(hidden, dropout, self.training)
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            hidden = layer.decode(hidden, audio, dropout)
        output: Tensor = self.layer_norm(hidden)
        return output


class Whisper(nn.Module):
    """Encoder and decoder; the output projection is the token embedding."""

    def __init__(self, shape: WhisperShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape)
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2 and "encoder.embed_positions" not in name:
                nn.init.normal_(
                    parameter, std=0.02 if "embed" in name else parameter[0].numel() ** -0.5
                )
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        # Residual branches start small, in the manner of GPT-2.
        for layer in (*self.encoder.layers, *self.decoder.layers):
            for name, parameter in layer.named_parameters():
                if name.endswith(("out_proj.weight", "fc2.weight")):
                    parameter.data.mul_((2 * shape.encoder_layers) ** -0.5)

    def logits(self, hidden: Tensor) -> Tensor:
        """[…, width] → [..., vocabulary]."""
        return F.linear(hidden, self.decoder.embed_tokens.weight)

    def state_dict_for_export(self) -> dict[str, Tensor]:
        """Weights under Hugging Face's names, the tied projection left out."""
        return {f"model.{name}": tensor for name, tensor in self.state_dict().items()}
