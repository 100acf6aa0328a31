"""The fast FUSE loop: pyfuse3 with a tap on what it exchanges with the kernel.

`extension` loads the tap, `session` mounts with it and serves, `turns` is the busy polling, `wire`
and `requests` are the kernel's numbers and what they mean, `notify` what can be told to the kernel.
A mount without the tap works the same, slower (docs/decisions/0006).
"""
