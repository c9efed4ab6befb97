"""The history of chats' schema."""
