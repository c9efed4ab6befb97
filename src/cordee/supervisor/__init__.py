"""Starts, watches, restarts and ends the processes of one host, and tells how they are."""
