"""How models run: speech recognition, the masked-diffusion engine, the embedded checkpoints and their training."""
