"""Training of the two checkpoints: speech recognition and the masked-diffusion language model."""
