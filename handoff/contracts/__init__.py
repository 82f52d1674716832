"""Messages, payload formats, the artifact manifest, errors and protocols. Pure: no I/O, no vendor SDK."""
