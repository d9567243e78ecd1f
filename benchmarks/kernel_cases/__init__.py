"""What `benchmarks.kernels` measures: one module per kernel, each with `variants(sizes, device)`."""
