"""The only door to a decoder: sandbox, probe, rules, the measuring pass, shots, the cutting pass."""
