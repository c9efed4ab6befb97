"""Cordée serves language models to many clients at once and does not go down."""

__version__ = "0.1.0"
