"""The event intake: what shoppers did, taken durably."""
