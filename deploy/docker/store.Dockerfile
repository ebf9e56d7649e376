# The adapter store, without torch, shell or package manager. From the repository's root:
#   docker build -f deploy/docker/store.Dockerfile -t multilora-store .
# Both bases have Python 3.11 and glibc 2.36, so that what is built in one runs in the other.
ARG BUILD_IMAGE=python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1
ARG RUN_IMAGE=gcr.io/distroless/python3-debian12:nonroot@sha256:7d1042ce588ab97019fe95c24ffca7bc5a82ccdac572511d5e09bda4435c89c5

FROM ${BUILD_IMAGE} AS build
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Dependencies first, from pyproject.toml alone: a change of the code leaves their layer as it is.
COPY pyproject.toml README.md deploy/docker/requirements.py ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python requirements.py adapter-store > /tmp/requirements.txt \
    && pip install --disable-pip-version-check --target /opt/multilora -r /tmp/requirements.txt
# What only their developers use, and debugging symbols.
RUN cd /opt/multilora \
    && rm -rf bin numpy/distutils numpy/f2py numpy/testing/tests Crypto/SelfTest sqlalchemy/testing \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && find . -name '*.pyi' -delete \
    && find sqlalchemy yaml Crypto -name '*.so' -exec strip --strip-unneeded {} +
COPY multilora.py ./
COPY client client
COPY protos protos
COPY services services
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --disable-pip-version-check --no-deps --target /tmp/code . \
    && rm -rf /tmp/code/bin && cp -r /tmp/code/. /opt/multilora/ \
    && mkdir -p /empty /opt/bin \
    && printf '%s\n' '#!/usr/bin/python3.11' 'from client.command.app import main' 'main()' > /opt/bin/multilora \
    && chmod 755 /opt/bin/multilora

FROM ${RUN_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG RUN_IMAGE
LABEL org.opencontainers.image.title="Multilora adapter store" \
      org.opencontainers.image.description="Keeps, checks and hands out LoRA adapters" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${RUN_IMAGE}"
COPY --from=build /opt/multilora /opt/multilora
COPY --from=build /opt/bin/multilora /usr/local/bin/multilora
# The only places that are written to, but for /tmp; a new volume that is mounted there takes over their owner.
COPY --from=build --chown=65532:65532 /empty /var/lib/multilora
COPY --from=build --chown=65532:65532 /empty /run/multilora
VOLUME /var/lib/multilora
ENV PATH=/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/multilora \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MULTILORA_LISTEN=0.0.0.0:7001 \
    MULTILORA_DATA_DIR=/var/lib/multilora
WORKDIR /tmp
USER 65532:65532
EXPOSE 7001
HEALTHCHECK --interval=10s --timeout=15s --start-period=30s --retries=3 \
    CMD ["multilora", "health", "--store", "127.0.0.1:7001"]
ENTRYPOINT ["multilora"]
CMD ["store"]
