"""Files and uploads: what people and programs hand in, kept as bytes that nobody can read from the disk, and given back unchanged."""
