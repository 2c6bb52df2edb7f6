"""The options of each component as one typed class: its keys, their ranges and their meaning, stated once.

The configuration is checked by these classes in the first second, so nothing here imports torch. A component that
checks an option itself asks the same class. The defaults are in the YAML files; docs/options.md shows all of it.
"""
