"""Commands about models: `app` takes them in. `train` is the largest, `job` says what it is to do."""
