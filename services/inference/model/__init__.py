"""Batch -> logits: one decoder for the Llama family, with LoRA at every linear site."""
