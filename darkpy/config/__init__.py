"""Text files to typed, checked objects: cfg, data-set descriptions, names.

Every error carries the file and line, and the nearest known word. Nothing here knows a layer or an array.
"""
