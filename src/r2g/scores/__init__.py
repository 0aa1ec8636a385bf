"""The scores as modules for `evaluate.load("<this folder>/bleu")`: each stands alone, so a little repeats."""
