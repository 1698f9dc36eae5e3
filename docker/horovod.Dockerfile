# Training with Horovod: one rank a GPU, started by its own launcher.
#
#     docker build -f docker/horovod.Dockerfile -t tensorseek-horovod .
#     docker run --rm -v "$PWD:/work" tensorseek-horovod \
#         horovodrun -np 2 tensorseek train recipe.yaml --set distribution.strategy=horovod
FROM python:3.11.14-slim-bookworm AS build
# Debian keeps one version of each: a pin would break with its next one.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        cmake g++ make libfarmhash-dev libhighwayhash-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/tensorseek
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY bundle bundle
COPY protos protos
COPY finetune finetune
COPY serving serving
COPY edge edge
COPY tensorseek tensorseek
RUN /opt/tensorseek/bin/pip install --no-cache-dir -c constraints.txt '.[finetune]'
COPY docker/build-horovod docker/build-horovod
RUN docker/build-horovod /opt/tensorseek

FROM python:3.11.14-slim-bookworm
COPY --from=build /opt/tensorseek /opt/tensorseek
ENV PATH=/opt/tensorseek/bin:$PATH
RUN useradd --create-home --uid 1000 tensorseek
USER 1000
WORKDIR /work
# A training is a job: it ends by itself, and its exit code says how.
HEALTHCHECK NONE
CMD ["tensorseek", "train", "--help"]
