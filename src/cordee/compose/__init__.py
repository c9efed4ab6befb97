"""The only room that knows everyone: it builds each process out of the rooms below."""
