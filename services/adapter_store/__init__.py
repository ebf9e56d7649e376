"""Versions, validates and stages LoRA weights: rows in SQL, bytes in a blob store."""
