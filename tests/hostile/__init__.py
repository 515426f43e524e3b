"""What others may have written: names that lead elsewhere, values of other types, files that never end."""
