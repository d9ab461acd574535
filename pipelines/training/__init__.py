"""Training in several processes that Ray Train starts, watches and starts again; `pipelines.train` is what they run."""
