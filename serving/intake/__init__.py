"""The event intake: it stores events, impressions and orders durably."""
