"""What a pyramid knows of its past: what is settled, why, what is left to do, by which plans and in which runs."""
