"""Experiments and timings that a reader can repeat with one command; no other command imports them."""
