"""How good a video is: VBench's six (`score`), and how well an autoencoder gives one back (`reconstruction`)."""
