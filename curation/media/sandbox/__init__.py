"""The decoder in a process of its own: `sandbox` is the way in, `child` the process, `cell` what it gives up."""
