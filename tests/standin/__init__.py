"""A server that answers as ComfyUI does, for tests of what stands beside one: real HTTP, real websockets, recorded words.

`python -m tests.standin --help` starts one by hand.
"""
