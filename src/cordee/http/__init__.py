"""The data plane's own HTTP/1.1 server and client: asyncio protocols on uvloop and httptools (llhttp)."""
