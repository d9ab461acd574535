"""Who computes a step: one process or several. `base` is the interface, `engines` names what there is."""
