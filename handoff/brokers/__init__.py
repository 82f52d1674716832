"""Brokers, one module each, chosen by URL scheme."""
