"""Access at the gateway: keys, tokens, scopes, origins, and how many requests a client may send."""
