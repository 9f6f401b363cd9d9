"""The agent: login, callback, user, logout, back-channel logout and the SPA's files. A Quart app that only the door can reach."""
