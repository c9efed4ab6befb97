"""Tells the servers of users when something of theirs has ended: endpoints, deliveries, and where these may go."""
