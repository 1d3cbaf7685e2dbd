"""Read revisions on a Hugging Face Hub, and release datasets, models and Spaces atomically.

No other package writes to a Hub.
"""
