"""The backend-for-frontend token handler: tokens stay on the server, the browser holds an opaque cookie."""

__version__ = "0.1.0"
