"""What a worker does with one item, whoever runs it: `measure`, `score`, `cut`. `results` is what they give."""
