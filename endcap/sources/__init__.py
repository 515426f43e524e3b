"""The table reader: a shop's files of any kind become checked, typed rows. Bad rows are set aside with a reason.

`files` finds a source's files, `formats` reads them as rows of text, `locate` and the mappings say which column becomes
what, `values` turns texts into ids, numbers and times, and `load.Loader` runs all of it, block by block.
"""
