"""Object stores, one module each, chosen by URL scheme."""
