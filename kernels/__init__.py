"""LoRA arithmetic over a paged pool: Triton kernels, torch ops for the CPU, and a plain reference."""
