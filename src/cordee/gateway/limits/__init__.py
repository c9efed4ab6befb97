"""Who may spend, who waits how long, and what is given up when the house is full."""
