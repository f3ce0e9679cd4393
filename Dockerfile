# syntax=docker/dockerfile:1
# Two targets: `service` (CUDA-capable, no torch) and `training`.

FROM python:3.12-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN groupadd --system --gid 10001 latentd \
    && useradd --system --uid 10001 --gid latentd --home-dir /app --no-create-home latentd \
    && python -m pip install --upgrade "pip>=25.1"
COPY pyproject.toml constraints.txt ./

FROM base AS service
# The extras bring the CUDA and cuDNN libraries; the driver comes from the host (docker run --gpus all).
RUN python -m pip install --constraint constraints.txt --group service --group telemetry \
    && if [ "$(uname -m)" = x86_64 ]; then \
        python -m pip install --constraint constraints.txt "onnxruntime-gpu[cuda,cudnn]"; \
    fi
COPY artifact artifact
COPY media media
COPY codec codec
COPY service service
COPY pretrained pretrained
USER 10001
ENV LATENTD_HOST=0.0.0.0 \
    LATENTD_PORT=8000 \
    LATENTD_STORE=/app/pretrained
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-m", "service.probe"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "service"]

FROM base AS training
RUN python -m pip install --constraint constraints.txt --group training
COPY artifact artifact
COPY media media
COPY codec codec
COPY models models
COPY training training
RUN install --directory --owner=latentd --group=latentd /app/runs /app/data /app/pretrained
USER 10001
VOLUME ["/app/runs", "/app/data", "/app/pretrained"]
ENTRYPOINT ["python", "-m", "training"]
