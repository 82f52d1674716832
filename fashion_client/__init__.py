"""The client application: send images to be classified, receive what they are."""

from fashion_client.client import Client
from fashion_client.submission import Result, Submission

__all__ = ["Client", "Result", "Submission"]
