"""The endpoints of conversations, of the list of chats, and of leaving with what is kept."""
