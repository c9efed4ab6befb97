"""OpenAI's formats in and out, as pure functions and small machines without I/O."""
