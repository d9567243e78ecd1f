"""What the engine is compared with: the published decoding of LLaDA, and an autoregressive decoder of the same size."""
