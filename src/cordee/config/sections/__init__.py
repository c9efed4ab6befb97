"""The tables of the configuration file, by theme."""
