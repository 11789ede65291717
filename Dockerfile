# docker build -t streamseg .                                    for a CPU (and CUDA: the standard torch build has both)
# docker build -t streamseg --build-arg TORCH_INDEX=URL .        torch from another package index, such as a CPU-only one
# docker run --rm -p 8000:8000 -e STREAMSEG_TOKEN=... streamseg  (add --gpus all for CUDA)
ARG PYTHON=3.11
FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 SAM2_BUILD_CUDA=0
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential \
 && rm -rf /var/lib/apt/lists/* \
 && python -m venv /opt/streamseg
ENV PATH=/opt/streamseg/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
RUN pip install -c constraints.txt pip setuptools wheel \
 && pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision \
 && pip install -c constraints.txt --no-build-isolation sam2
COPY pyproject.toml README.md LICENSE ./
COPY scripts scripts
COPY configs configs
COPY clients clients
COPY streamseg streamseg
RUN pip install -c constraints.txt . && python scripts/check_install.py

FROM python:${PYTHON}-slim
COPY --from=build /opt/streamseg /opt/streamseg
RUN useradd --create-home --uid 10001 streamseg
USER streamseg
WORKDIR /home/streamseg
# Listening beyond loopback needs STREAMSEG_TOKEN; the service says so and ends without it.
ENV PATH=/opt/streamseg/bin:$PATH PYTHONUNBUFFERED=1 STREAMSEG_HOST=0.0.0.0 STREAMSEG_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"STREAMSEG_PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["streamseg"]
CMD ["serve"]
