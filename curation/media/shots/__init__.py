"""Where shots end: `base` says what a detector is, `table` lists them, a file each holds one."""
