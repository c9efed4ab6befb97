"""OpenAI's Responses API, told in chat completions: translation, streaming, storing, and work in the background."""
