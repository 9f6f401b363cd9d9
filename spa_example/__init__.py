"""The example that shows the token handler at work: a single-page app (``web/``) and an API that trusts nobody (``api``)."""
