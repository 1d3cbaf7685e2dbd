"""Foundations that every stage builds on: configuration, errors, files, records and output."""
