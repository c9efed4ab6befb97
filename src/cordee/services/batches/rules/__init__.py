"""Decisions of batches: pure, the standard library and msgspec only."""
