"""pass@k as a metric of `evaluate`: `evaluate.load("src/code_alpaca/evaluation/pass_at_k")`."""
