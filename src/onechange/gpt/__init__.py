"""The models: GPT-2 and Llama, LoRA, many seeds as one model, tokenizers, checkpoints.

Imports from support.
"""
