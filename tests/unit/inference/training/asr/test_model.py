import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from inference.training.asr.export import whisper_config
from inference.training.asr.model import Whisper, WhisperShape
from inference.training.asr.tokenizer import SpecialIds

_SHAPE = WhisperShape(
    vocabulary=600, width=64, heads=2, encoder_layers=2, decoder_layers=2, feed_forward=128
)
_IDS = SpecialIds(500, 501, 502, 503, 504, 505, 600)


def test_the_module_is_whisper() -> None:
    torch.manual_seed(0)
    model = Whisper(_SHAPE).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, std=0.3)
    config = whisper_config(_SHAPE, _IDS)
    reference = WhisperForConditionalGeneration(
        WhisperConfig(
            **{
                name: value
                for name, value in config.items()
                if name not in ("architectures", "model_type")
            }
        )
    ).eval()
    result = reference.load_state_dict(model.state_dict_for_export(), strict=False)
    assert result.missing_keys == ["proj_out.weight"]
    assert result.unexpected_keys == []
    reference.tie_weights()
    mel, tokens = torch.randn(2, 80, 3_000), torch.randint(0, 500, (2, 17))
    with torch.no_grad():
        made = model.logits(model.decoder(tokens, model.encoder(mel, 0.0), 0.0))
        wanted = reference(input_features=mel, decoder_input_ids=tokens).logits
    assert torch.allclose(made, wanted, atol=1e-5)


def test_short_windows_and_bf16_run_and_reach_every_weight() -> None:
    torch.manual_seed(0)
    model = Whisper(_SHAPE)
    mel, tokens = torch.randn(2, 80, 126), torch.randint(0, 500, (2, 9))
    with torch.autocast("cpu", torch.bfloat16):
        audio = model.encoder(mel, 0.1)
        logits = model.logits(model.decoder(tokens, audio, 0.1))
    assert audio.shape == (2, 63, 64)
    assert logits.dtype == torch.bfloat16
    logits.float().square().mean().backward()
    trained = [one for one in model.parameters() if one.requires_grad]
    assert all(one.grad is not None and torch.isfinite(one.grad).all() for one in trained)
    assert not model.encoder.embed_positions.weight.requires_grad
