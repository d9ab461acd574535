"""Captions by vLLM in the stage's own process: no server, and the next requests join while earlier ones are answered.

    Asked -> [captioner] -> requests -> [engine] -> answers in any order -> [captioner] -> Said

`base` has the types, `captioner` keeps the requests in flight, `engine` is vLLM itself, and `trial` looks at the set-up
before a run. Only `engine` and `trial` import vLLM, which lives in an environment of its own (`make env-vllm`).
"""
