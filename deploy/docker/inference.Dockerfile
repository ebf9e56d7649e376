# The inference service, for CPUs or for NVIDIA GPUs. From the repository's root:
#   docker build -f deploy/docker/inference.Dockerfile -t multilora-inference:cpu .
#   docker build -f deploy/docker/inference.Dockerfile -t multilora-inference:cuda --build-arg FLAVOUR=cuda .
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1
ARG FLAVOUR=cpu

FROM ${PYTHON_IMAGE} AS python-cpu

# Triton compiles its launchers when they are first used; CUDA's libraries come with torch.
FROM ${PYTHON_IMAGE} AS python-cuda
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TRITON_CACHE_DIR=/var/cache/multilora/triton \
    MULTILORA_DEVICE=cuda

FROM ${PYTHON_IMAGE} AS build
ARG FLAVOUR
# Where torch's builds without CUDA are; empty: where pip looks anyway.
ARG CPU_TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python -m venv --without-pip /opt/multilora
# Dependencies first, from pyproject.toml alone: a change of the code leaves their layer as it is.
COPY pyproject.toml README.md deploy/docker/requirements.py ./
# Only a GPU has a use for Triton.
RUN --mount=type=cache,target=/root/.cache/pip \
    python requirements.py inference > /tmp/requirements.txt \
    && if [ "$FLAVOUR" = cpu ]; then \
         sed -i /^triton/d /tmp/requirements.txt; \
         if [ -n "$CPU_TORCH_INDEX" ]; then export PIP_EXTRA_INDEX_URL="$CPU_TORCH_INDEX"; fi; \
       fi \
    && pip --python /opt/multilora/bin/python install --disable-pip-version-check -r /tmp/requirements.txt
COPY multilora.py ./
COPY client client
COPY protos protos
COPY kernels kernels
COPY services services
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/multilora/bin/python install --disable-pip-version-check --no-deps . \
    && find /opt/multilora -name '*.pyi' -delete

FROM python-${FLAVOUR}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG PYTHON_IMAGE
ARG FLAVOUR
LABEL org.opencontainers.image.title="Multilora inference (${FLAVOUR})" \
      org.opencontainers.image.description="Serves one base model and its LoRA adapters" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
COPY --from=build /opt/multilora /opt/multilora
# The only place that is written to, but for /tmp; a volume that is mounted there takes over its owner.
RUN mkdir -p /var/cache/multilora && chown 65532:65532 /var/cache/multilora
VOLUME /var/cache/multilora
ENV PATH=/opt/multilora/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MULTILORA_LISTEN=0.0.0.0:7000 \
    MULTILORA_MODEL=/model \
    MULTILORA_CACHE_DIR=/var/cache/multilora/adapters
WORKDIR /tmp
USER 65532:65532
EXPOSE 7000
# A large model takes its time to load; only then is the service healthy.
HEALTHCHECK --interval=10s --timeout=15s --start-period=600s --retries=3 \
    CMD ["multilora", "health", "--server", "127.0.0.1:7000"]
ENTRYPOINT ["multilora"]
CMD ["serve"]
