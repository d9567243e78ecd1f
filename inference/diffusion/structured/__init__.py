"""Structured output: JSON schemas compiled to scaffolds and slots, and the constrained step in plain PyTorch."""
