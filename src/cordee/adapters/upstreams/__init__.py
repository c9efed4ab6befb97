"""The ways to a replica: our own workers by link, any OpenAI-compatible server by URL."""
