"""What is told of a request on its way to those who watch the service."""
