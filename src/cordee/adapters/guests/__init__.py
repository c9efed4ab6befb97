"""Guests: inference servers of other makes (vLLM, SGLang) that run as processes of this installation."""
