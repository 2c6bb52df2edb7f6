"""The options of each component, declared once in a typed class: keys, ranges and meanings.

These classes check a configuration within a second, so nothing here imports torch. A component that checks an option
itself uses the same class. The defaults are in the YAML files; docs/options.md shows everything.
"""
