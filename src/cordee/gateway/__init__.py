"""The front door: a request comes in, becomes a call, goes its way, and its answer is written in the client's format."""
