"""Decide which rows are accepted: filters, decontamination, verification, deduplication."""
