"""Conversations that are kept, and answers with a memory."""
