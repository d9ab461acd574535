# Ray Serve with vLLM, for an endpoint that captions (the chart's RayService): nothing of Ziggurat is in it, recipes name
# it by its URL. `ray[llm]` pins a vLLM of its own, so this is none of the three environments.
# From the repository's root: docker build -f deploy/docker/endpoint.Dockerfile -t ziggurat-endpoint:0.1.0 .
FROM python:3.11.14-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev wget \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m pip install 'ray[default,llm,serve]==2.60.0' \
    && useradd --uid 1000 --create-home ziggurat

ENV HOME=/home/ziggurat RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
CMD ["ray", "--help"]
