"""A front proxy asks us, and sends what we admit to the API itself: the endpoint, and the configurations that make five proxies ask."""
