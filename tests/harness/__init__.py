"""Black-box tools: programs under test as processes, a raw upstream, a raw client, a browser model, a chaos proxy.

Nothing in here imports the product; it is configured by file and spoken to over sockets (design.md, "outside contract").
"""
