"""The pass@k metric, for `evaluate.load("src/code_alpaca/evaluation/pass_at_k")`."""
