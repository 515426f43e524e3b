"""The files of the repository that other files determine: see `tests.generate.__main__`."""
