"""From prompts and images to videos: `sampler` first; `denoise` takes the steps from noise to data."""
