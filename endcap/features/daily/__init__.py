"""A dataset out of coded days: each day of a snapshot becomes narrow integers once, and is then kept.

`coding` turns a day's rows into a `coded_day`. `assembly` makes a dataset of coded days. Both are pure functions. A
full build codes every day and then assembles; a later build finds most days coded. So the two are equal.
"""
