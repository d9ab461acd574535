# Ziggurat without a GPU: the main environment, PaddleOCR's and vLLM's for CPUs, by the Makefile's own targets.
# From the repository's root: docker build -f deploy/docker/cpu.Dockerfile -t ziggurat:0.1.0-cpu .
FROM python:3.11.14-slim-bookworm

# make: the environments; wget: KubeRay's probes ask by it; libgl1 and libglib2.0-0: PaddleOCR's OpenCV is not headless.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 make wget \
    && rm -rf /var/lib/apt/lists/*

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/ziggurat
COPY pyproject.toml constraints.txt ziggurat.py Makefile README.md ./
COPY deploy/envs deploy/envs
COPY kernels kernels
COPY training training
COPY curation curation
COPY pipelines pipelines

RUN make .venv/core
RUN .venv/bin/python -m pip install --constraint constraints.txt --editable '.[caption,clusters,jobs,serve,stats]'
RUN make env-paddle
RUN make env-vllm

# KubeRay starts Ray in a login shell, and Debian's profile sets PATH anew.
ENV PATH=/opt/ziggurat/.venv/bin:$PATH
RUN echo 'export PATH=/opt/ziggurat/.venv/bin:$PATH' > /etc/profile.d/ziggurat.sh \
    && useradd --uid 1000 --create-home ziggurat

ENV HOME=/home/ziggurat RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
USER 1000:1000
CMD ["ziggurat", "--help"]
