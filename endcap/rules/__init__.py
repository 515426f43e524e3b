"""The business rules of a shop, applied alike in evaluation, batch and serving."""
