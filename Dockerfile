# CPU:  docker build -t sam-bench .
# CUDA: docker build -t sam-bench --build-arg DEVICE=cuda .      (the host brings driver and container toolkit)
# Run:  scripts/docker_run.sh sweep quickstart
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG BASE
ARG DEVICE=cpu
# Triton compiles what starts its kernels with a C compiler: without one compile=auto leaves every run uncompiled.
# hadolint ignore=DL3008
RUN if [ "$DEVICE" = cuda ]; then \
      apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    fi
ARG CPU_WHEELS=https://download.pytorch.org/whl/cpu
ENV PATH=/opt/sam-bench/bin:$PATH PYTHONUNBUFFERED=1 SAM_BENCH_DATA=/data SAM_BENCH_RESULTS=/results
WORKDIR /src

# The dependencies first, with an empty package: a change of the code does not download them again.
COPY pyproject.toml constraints.txt ./
RUN mkdir -p sam_bench configs results/published/tuned && touch README.md LICENSE sam_bench/__init__.py \
 && python3 -m venv /opt/sam-bench \
 && if [ "$DEVICE" = cpu ]; then export PIP_EXTRA_INDEX_URL="$CPU_WHEELS"; fi \
 && pip install --no-cache-dir -c constraints.txt '.[bench]'
COPY README.md LICENSE ./
COPY configs configs
COPY results/published/tuned results/published/tuned
COPY sam_bench sam_bench
RUN pip install --no-cache-dir --no-deps --force-reinstall . \
 && useradd --create-home --uid 1000 bench \
 && install -d -o bench -g bench /data /results

LABEL org.opencontainers.image.title="sam_bench" \
      org.opencontainers.image.description="Benchmark of sharpness-aware optimizers on molecules and images" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${BASE}"

USER 1000
WORKDIR /results
VOLUME ["/data", "/results"]
# Seldom, because a check beside a training disturbs its timings. A warning (exit status 1) is healthy: runs work.
HEALTHCHECK --interval=30m --timeout=2m --retries=1 CMD ["sh", "-c", "sam-bench doctor || [ $? -eq 1 ]"]
ENTRYPOINT ["sam-bench"]
CMD ["--help"]
