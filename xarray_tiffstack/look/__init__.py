"""Seeing a Dataset: pictures of it, its files as a map, and existing viewers set up for it.

Everything here takes xarray objects in. Nothing here knows of file names, TIFFs or how the array
is made, so that it works for a folder of TIFFs and for a store that was made of one alike.
"""
