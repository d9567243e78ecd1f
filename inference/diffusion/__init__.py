"""The masked-diffusion engine: prompts and JSON schemas in, checked records out."""
