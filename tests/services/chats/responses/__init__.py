"""Responses: translation both ways, streams of events, storing, and work in the background."""
