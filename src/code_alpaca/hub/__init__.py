"""Everything that writes to a Hugging Face Hub: atomic releases of datasets, models and Spaces."""
