"""The sub-commands as functions: values in, values and files out, nothing printed.

This layer joins the ones below it (models, graph, oracle, compress, search, report) and knows the layout of a run
folder.
"""
