# Ziggurat for nodes with NVIDIA GPUs: as cpu.Dockerfile, with torch for CUDA, open_clip, training, and vLLM's own build.
# CUDA's libraries come with torch; the driver, its decoder and encoder come from the node by NVIDIA's container toolkit.
# From the repository's root: docker build -f deploy/docker/gpu.Dockerfile -t ziggurat:0.1.0-gpu .
FROM python:3.11.14-slim-bookworm

# gcc and libc6-dev: Triton compiles the launcher of a kernel where the kernel runs. The others: see cpu.Dockerfile.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libgl1 libglib2.0-0 make wget \
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
RUN .venv/bin/python -m pip install --constraint constraints.txt \
        --editable '.[caption,clip,clusters,colossal,jobs,serve,stats,train,transnet]' \
    && .venv/bin/python -m pip install --no-deps colossalai==0.5.0
RUN make env-paddle
RUN make env-vllm VLLM=vllm

# KubeRay starts Ray in a login shell, and Debian's profile sets PATH anew.
ENV PATH=/opt/ziggurat/.venv/bin:$PATH
RUN echo 'export PATH=/opt/ziggurat/.venv/bin:$PATH' > /etc/profile.d/ziggurat.sh \
    && useradd --uid 1000 --create-home ziggurat

ENV HOME=/home/ziggurat RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
USER 1000:1000
CMD ["ziggurat", "--help"]
