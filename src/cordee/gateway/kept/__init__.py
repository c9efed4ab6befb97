"""Calls that outlive their gateway: written down, resumed, repeated, and what became of them."""
