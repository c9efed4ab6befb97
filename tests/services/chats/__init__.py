"""Chats: conversations and responses."""
