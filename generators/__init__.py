"""Grasp generators, one module or folder per family; each enters through the `simeval.generators` entry points."""
