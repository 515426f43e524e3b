"""Who may do what at the gateway: keys, tokens, scopes, origins, and how fast each client may ask."""
