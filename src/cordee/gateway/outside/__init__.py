"""Calls that leave this installation, and those that must not."""
