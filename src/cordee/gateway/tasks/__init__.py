"""Calls that are no conversation: vectors, comparisons, probabilities. What is computed of their texts is one answer."""
