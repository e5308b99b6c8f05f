"""A ComfyUI workflow as a value, what is known of its nodes, and the changes that make it need less.

`graph` reads both forms of a workflow; `nodes` holds what is known of node types; `inputs` finds where an input's value
stands; `places` puts new values there; `plan` decides which. Nothing here reads a file or asks a server.
"""
